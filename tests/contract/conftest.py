"""One migrated database for all contracts: they look, and what they write they roll back."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.kit.postgres import shared_server


@pytest.fixture(scope="session")
def contract_url(new_database: Callable[..., str]) -> str:
    """The login role on a database with the schema of this release."""
    return new_database("migrated")


@pytest.fixture(scope="session")
def contract_superuser_url(contract_url: str) -> str:
    """The superuser on the same database, for looking at what no role of the product may."""
    name = contract_url.rpartition("@/")[2].partition("?")[0]
    return shared_server().url_of(name, superuser=True)
