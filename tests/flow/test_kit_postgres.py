"""The test kit's own promise: real databases, quickly, with safe settings."""

from __future__ import annotations

from collections.abc import Callable

import asyncpg
import pytest

from outrider.data.migrate import upgrade
from tests.kit.postgres import make_template, run_sql


async def test_a_new_database_is_a_copy_of_its_template(new_database: Callable[..., str]) -> None:
    make_template("kit_template", lambda url: run_sql(url, "CREATE TABLE marker (n int)"))
    connection = await asyncpg.connect(new_database("kit_template"))
    try:
        assert await connection.fetchval("SELECT count(*) FROM marker") == 0
    finally:
        await connection.close()


def test_a_template_that_could_not_be_filled_fails_again_for_the_same_reason(server_url: str) -> None:
    def fill(url: str) -> None:
        run_sql(url, "CREATE TABLE marker (n int)", "SELECT 1 / 0")

    for _ in range(2):
        with pytest.raises(asyncpg.DivisionByZeroError):
            make_template("kit_broken_template", fill)


async def test_the_shared_server_keeps_committed_data_safe(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        for name in ("fsync", "full_page_writes", "synchronous_commit"):
            assert await connection.fetchval(f"SHOW {name}") == "on"
        assert not await connection.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
    finally:
        await connection.close()


async def test_a_migrated_database_needs_no_migration(migrated_url: str) -> None:
    assert await upgrade(migrated_url) == []
