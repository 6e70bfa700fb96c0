"""One browser for all tests of pages, and servers whose pages it opens."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.kit import browser as chromium
from tests.kit.browser import Browser, open_browser
from tests.kit.dispatch import Post, posts
from tests.kit.elsewhere import Elsewhere


def pytest_collection_finish(session: pytest.Session) -> None:
    """Install the browser before the first test, whose time is bounded; the fixture says it when that fails."""
    if session.items and not session.config.option.collectonly:
        with suppress(chromium.NotInstalled):
            chromium.program()


@pytest.fixture(scope="session")
async def browser(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Browser]:
    if chromium.program() is None:
        pytest.skip(f"there is no chromium; install it with: {chromium.INSTALL}")
    async with open_browser(tmp_path_factory.mktemp("chromium")) as running:
        yield running


@pytest.fixture(scope="session")
async def post(new_database: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Post]:
    folder: Path = tmp_path_factory.mktemp("post")
    async with posts(new_database("migrated"), folder) as running:
        yield running


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    with Elsewhere() as server:
        yield server
