"""The pool on a real server: never more than its size, and what was not needed lately goes back to the server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from outrider.base.errors import Unavailable
from outrider.data import pool
from outrider.data.db import Database, Role

SIZE = 6


async def _held(db: Database, count: int, met: asyncio.Barrier) -> None:
    async def hold() -> None:
        async with db.uow(Role.ENGINE):
            await met.wait()

    await asyncio.gather(*(hold() for _ in range(count)))


async def _use(db: Database) -> int:
    """A short piece of work; gives the server process that did it."""
    async with db.uow(Role.ENGINE) as uow:
        return int(await uow.raw.fetchval("SELECT pg_backend_pid()"))


async def _open_count(watcher: asyncpg.Connection) -> int:
    """How many connections the server sees of this pool."""
    question = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'calm pool'"
    )
    return int(await watcher.fetchval(question))


async def test_connections_that_were_not_needed_lately_are_closed(
    migrated_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "WINDOW_S", 0.05)
    db = Database(migrated_url, pool_size=SIZE, wait_s=0.2, name="calm pool")
    watcher = await asyncpg.connect(migrated_url)
    try:
        for _ in range(2):  # it grows again as it did the first time
            await _held(db, SIZE, asyncio.Barrier(SIZE))
            async with asyncio.timeout(90):
                while await _open_count(watcher) > pool._KEPT_COUNT:
                    await _use(db)
            assert db.available() == SIZE
        assert len({await _use(db) for _ in range(20)}) == 1, "work stays on the same connection"
        monkeypatch.undo()
        await _held(db, SIZE, asyncio.Barrier(SIZE))
        await _use(db)
        assert await _open_count(watcher) == SIZE, "what was needed just now is kept"
        met = asyncio.Barrier(SIZE + 1)
        busy = asyncio.create_task(_held(db, SIZE, met))
        while db.available():  # noqa: ASYNC110 - the pool has no event for it
            await asyncio.sleep(0.01)
        with pytest.raises(Unavailable, match="in use"):
            await _use(db)
        await met.wait()
        await busy
    finally:
        await watcher.close()
        await db.close()


async def _beside(db: Database, *, lasts: bool) -> tuple[int, int]:
    """Who serves a piece of work that begins while another is under way, and who that one: it lasts longer, or ends."""
    begun, served = asyncio.Event(), asyncio.Event()
    if not lasts:
        asyncio.get_running_loop().call_later(0.05, served.set)

    async def last() -> int:
        async with db.uow(Role.ENGINE) as uow:
            begun.set()
            await served.wait()
            return int(await uow.raw.fetchval("SELECT pg_backend_pid()"))

    lasting = asyncio.create_task(last())
    await begun.wait()
    late = await _use(db)
    served.set()
    return late, await lasting


async def test_what_comes_together_by_chance_goes_over_one_connection_and_what_lasts_gets_another(
    migrated_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "_MOMENT_S", 60.0)
    db = Database(migrated_url, pool_size=SIZE, name="calm pool")
    watcher = await asyncpg.connect(migrated_url)
    try:
        first, second = await _beside(db, lasts=False)
        assert first == second, "it came back within a moment"
        assert await _open_count(watcher) == 1
        monkeypatch.setattr(pool, "_MOMENT_S", 0.01)
        monkeypatch.setattr(pool, "_PATIENCE_S", 3600.0)
        first, second = await _beside(db, lasts=True)
        assert first != second, "a moment was long enough"
        assert await _open_count(watcher) == 2
    finally:
        await watcher.close()
        await db.close()


@asynccontextmanager
async def _patient(url: str, monkeypatch: pytest.MonkeyPatch, patience_s: float) -> AsyncIterator[Database]:
    """A pool for which every wait is a moment, as long as it has this patience."""
    monkeypatch.setattr(pool, "_MOMENT_S", 3600.0)
    monkeypatch.setattr(pool, "_PATIENCE_S", patience_s)
    db = Database(url, pool_size=SIZE, name="calm pool")
    try:
        yield db
    finally:
        await db.close()


async def test_under_load_nobody_waits_for_a_connection_that_could_be_opened(
    migrated_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _patient(migrated_url, monkeypatch, 0.0) as db, asyncio.timeout(60):
        await _held(db, SIZE, asyncio.Barrier(SIZE))


async def test_whoever_stops_waiting_for_a_connection_takes_none_along(
    migrated_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _patient(migrated_url, monkeypatch, 3600.0) as db:
        met = asyncio.Barrier(2)
        busy = asyncio.create_task(_held(db, 1, met))
        while db.available() == SIZE:  # noqa: ASYNC110 - the pool has no event for it
            await asyncio.sleep(0.01)
        waiting = [asyncio.create_task(_use(db)) for _ in range(SIZE - 1)]
        done, _ = await asyncio.wait(waiting, timeout=0.1)
        assert not done, "they wait for the one that is in use"
        await met.wait()
        for each in waiting[::2]:  # at the moment in which it comes back, too
            each.cancel()
            await asyncio.sleep(0)
        await asyncio.gather(busy, *waiting, return_exceptions=True)
        assert [each.cancelled() for each in waiting] == [True, False, True, False, True]
        assert db.available() == SIZE
        async with asyncio.timeout(60):
            await _use(db)


async def test_what_is_in_use_while_the_pool_is_closed_is_closed_at_its_end_and_nothing_begins_afterwards(
    migrated_url: str,
) -> None:
    db = Database(migrated_url, pool_size=SIZE, name="calm pool")
    watcher = await asyncpg.connect(migrated_url)
    try:
        met = asyncio.Barrier(3)
        busy = asyncio.create_task(_held(db, 2, met))
        async with db.uow(Role.ENGINE) as uow:
            while db.available() > SIZE - 3:  # noqa: ASYNC110 - the pool has no event for it
                await asyncio.sleep(0.01)
            await db.close()
            assert await uow.raw.fetchval("SELECT 1") == 1, "what is under way goes on"
        await met.wait()
        await busy
        async with asyncio.timeout(90):  # the server notices in its own time
            while await _open_count(watcher):  # noqa: ASYNC110 - nor has the server
                await asyncio.sleep(0.01)
        with pytest.raises(Unavailable, match="not reachable"):
            await _use(db)
        await db.close()
    finally:
        await watcher.close()


async def test_what_the_pool_does_is_logged_where_sqlalchemy_is_quiet(
    migrated_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    caplog.set_level(logging.INFO, "sqlalchemy")
    db = Database(migrated_url, pool_size=1)
    await _use(db)
    await db.close()
    names = {record.name.partition(".")[0] for record in caplog.records if "Pool" in record.getMessage()}
    assert names == {"sqlalchemy"}
