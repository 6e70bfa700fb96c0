"""A new embedded database has WAL segments made ahead, and keeps what was made: commits do not wait for each."""

from __future__ import annotations

import asyncpg
import pytest

from outrider.data.embedded_postgres import cluster, ensure
from tests.kit.embedded import data_folder

_AHEAD = "SELECT name FROM pg_ls_waldir() WHERE size = 16777216 AND name > $1"


async def test_segments_are_made_ahead_and_kept_over_checkpoints_and_restarts() -> None:
    with data_folder() as folder:
        with ensure(folder / "pg", settings={"min_wal_size": "256MB"}) as server:
            connection = await asyncpg.connect(server.superuser_url)
            try:
                current = await connection.fetchval("SELECT pg_walfile_name(pg_current_wal_insert_lsn())")
                made = {row["name"] for row in await connection.fetch(_AHEAD, current)}
                assert await connection.fetchval("SHOW wal_init_zero") == "on", "that was for the first start only"
                await connection.execute("CHECKPOINT")
                kept = {row["name"] for row in await connection.fetch(_AHEAD, current)}
            finally:
                await connection.close()
        assert len(made) >= 4, "a quarter of 256 MB"
        assert made <= kept
        with ensure(folder / "pg", settings={"min_wal_size": "256MB"}) as server:
            connection = await asyncpg.connect(server.superuser_url)
            try:
                assert made <= {row["name"] for row in await connection.fetch(_AHEAD, current)}
            finally:
                await connection.close()


async def test_a_disk_on_which_that_takes_too_long_gets_a_server_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_AHEAD_WITHIN_S", 0)
    with data_folder() as folder, ensure(folder / "pg") as server:
        connection = await asyncpg.connect(server.superuser_url)
        try:
            current = await connection.fetchval("SELECT pg_walfile_name(pg_current_wal_insert_lsn())")
            assert len(await connection.fetch(_AHEAD, current)) < 4, "of sixteen"
        finally:
            await connection.close()
