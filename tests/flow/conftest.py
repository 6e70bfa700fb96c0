"""What flows have in common: an installation of a test module's own, on a new database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from tests.kit.dispatch import Post, posts


@pytest.fixture(scope="module")
async def post(new_database: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Post]:
    """Tenants and workers of a module's tests."""
    async with posts(new_database("migrated"), tmp_path_factory.mktemp("post")) as made:
        yield made
