"""A unit of work is one transaction as one role for one tenant, and leaves nothing of it behind, however it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from outrider.base.errors import Broken, Refused, Unavailable
from outrider.base.ids import DEFAULT_TENANT
from outrider.data.db import Database, Role, UnitOfWork

_BOUND_S = 60
_OTHER_TENANT = UUID("0192f0c4-0000-7000-8000-000000000002")


@dataclass(frozen=True, slots=True)
class Seen:
    """A connection as whoever gets it next from the pool finds it, and the server process behind it."""

    pid: int
    role: str
    tenant: str
    is_in_transaction: bool


@dataclass(frozen=True, slots=True)
class House:
    """A pool of one connection without a role, so that everybody gets the same; and one of its own beside it."""

    db: Database
    beside: asyncpg.Connection
    user: str

    async def next(self) -> Seen:
        connection = await self.db.engine.connect()
        try:
            raw: Any = (await connection.get_raw_connection()).driver_connection
            is_in_transaction = raw.is_in_transaction()
            row = await raw.fetchrow("SELECT current_user, coalesce(current_setting('app.tenant', true), '')")
            return Seen(raw.get_server_pid(), row[0], row[1], is_in_transaction)
        finally:
            await connection.close()

    async def clean(self) -> int:
        """Assert that nothing is left for the next; gives the server process."""
        seen = await self.next()
        assert (seen.role, seen.tenant, seen.is_in_transaction) == (self.user, "", False)
        return seen.pid

    async def notes(self) -> list[str]:
        return [row["text"] for row in await self.beside.fetch("SELECT text FROM notes ORDER BY text")]


@pytest.fixture
async def house(new_database: Callable[..., str]) -> AsyncIterator[House]:
    url = new_database("migrated")
    db, beside = Database(url, pool_size=1, statement_timeout_s=_BOUND_S), await asyncpg.connect(url)
    await beside.execute(
        "CREATE TABLE notes (text text NOT NULL, twin text, UNIQUE (twin) DEFERRABLE INITIALLY DEFERRED);"
        "GRANT ALL ON notes TO PUBLIC"
    )
    try:
        yield House(db, beside, await beside.fetchval("SELECT current_user"))
    finally:
        await db.close()
        await beside.close()


async def _note(uow: UnitOfWork, text: str, twin: str | None = None) -> None:
    await uow.raw.execute("INSERT INTO notes VALUES ($1, $2)", text, twin)


async def _as_it_should_be(uow: UnitOfWork) -> None:
    found = await uow.raw.fetchrow("SELECT current_user, current_setting('app.tenant')")
    assert (found[0], found[1]) == (Role.APP, str(DEFAULT_TENANT))
    assert uow.raw.is_in_transaction()


async def _commit(_house: House, _uow: UnitOfWork) -> None:
    """Nothing more."""


async def _undo_at_end(_house: House, uow: UnitOfWork) -> None:
    uow.undo_at_end()


async def _undo_by_a_copy(_house: House, uow: UnitOfWork) -> None:
    replace(uow, tenant_id=_OTHER_TENANT).undo_at_end()


async def _refuse(_house: House, _uow: UnitOfWork) -> None:
    raise Refused("no", "no")


async def _fail(_house: House, uow: UnitOfWork) -> None:
    await uow.raw.execute("SELECT 1 / 0")


async def _fail_quietly(_house: House, uow: UnitOfWork) -> None:
    with pytest.raises(asyncpg.DivisionByZeroError):
        await uow.raw.execute("SELECT 1 / 0")


async def _fail_at_commit(_house: House, uow: UnitOfWork) -> None:
    await _note(uow, "twin", "same")
    await _note(uow, "twin", "same")


async def _lose_a_deadlock(_house: House, uow: UnitOfWork) -> None:
    await uow.raw.execute("DO $$ BEGIN RAISE EXCEPTION 'drill' USING ERRCODE = '40P01'; END $$")


async def _take_too_long(_house: House, uow: UnitOfWork) -> None:
    await uow.raw.execute("SET LOCAL statement_timeout = '20ms'; SELECT pg_sleep(60)")


async def _stop_waiting(_house: House, uow: UnitOfWork) -> None:
    async with asyncio.timeout(0.02):
        await uow.raw.execute("SELECT pg_sleep(60)")


async def _end_the_session(house: House, uow: UnitOfWork) -> None:
    await house.beside.fetchval("SELECT pg_terminate_backend($1)", uow.raw.get_server_pid())
    await uow.raw.execute("SELECT pg_sleep(60)")


async def _end_the_session_before_commit(house: House, uow: UnitOfWork) -> None:
    await house.beside.fetchval("SELECT pg_terminate_backend($1, 60000)", uow.raw.get_server_pid())


_Act = Callable[[House, UnitOfWork], Awaitable[None]]
_LOST = {_stop_waiting, _end_the_session, _end_the_session_before_commit}
"""After these the connection is not known to be sound, so the next one gets another."""


@pytest.mark.parametrize(
    ("act", "raised"),
    [
        (_commit, None),
        (_undo_at_end, None),
        (_undo_by_a_copy, None),
        (_refuse, Refused),
        (_fail, asyncpg.DivisionByZeroError),
        (_fail_quietly, Broken),
        (_fail_at_commit, asyncpg.UniqueViolationError),
        (_lose_a_deadlock, Unavailable),
        (_take_too_long, Unavailable),
        (_stop_waiting, Unavailable),
        (_end_the_session, Unavailable),
        (_end_the_session_before_commit, Unavailable),
    ],
)
async def test_however_it_ends_the_next_one_on_its_connection_has_neither_role_nor_tenant(
    house: House, act: _Act, raised: type[Exception] | None
) -> None:
    async def work() -> None:
        async with house.db.uow(Role.APP, DEFAULT_TENANT) as uow:
            await _as_it_should_be(uow)
            await _note(uow, "kept")
            await act(house, uow)

    before = await house.clean()
    if raised is None:
        await work()
    else:
        with pytest.raises(raised):
            await work()
    assert (await house.clean() != before) is (act in _LOST)
    assert await house.notes() == (["kept"] if act is _commit else [])
    assert house.db.available() == 1


@pytest.mark.parametrize("where", ["in a statement", "between statements", "in a savepoint", "at its begin"])
async def test_one_that_is_cancelled_leaves_no_connection_behind(house: House, where: str) -> None:
    begun = asyncio.Event()

    async def work() -> None:
        async with house.db.uow(Role.APP, DEFAULT_TENANT) as uow:
            await _note(uow, "kept")
            begun.set()
            if where == "in a savepoint":
                async with uow.savepoint():
                    await uow.raw.execute("SELECT pg_sleep(60)")
            elif where == "in a statement":
                await uow.raw.execute("SELECT pg_sleep(60)")
            else:
                await asyncio.Event().wait()

    async def is_in_a_statement() -> bool:
        sleeping = "SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"
        return bool(await house.beside.fetch(sleeping))

    before = await house.clean()
    working = asyncio.create_task(work())
    async with asyncio.timeout(_BOUND_S):
        if where == "at its begin":
            while house.db.available():  # noqa: ASYNC110 - the pool has no event for it
                await asyncio.sleep(0)
        else:
            await begun.wait()
            while where != "between statements" and not await is_in_a_statement():  # noqa: ASYNC110 - nor has the server
                await asyncio.sleep(0.01)
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    assert await house.clean() != before
    assert await house.notes() == []
    assert house.db.available() == 1


async def test_the_app_role_sees_the_rows_of_its_tenant_alone_and_without_one_none(house: House) -> None:
    async with house.db.uow(Role.ENGINE) as uow:
        await uow.raw.execute("INSERT INTO tenants (id, name) VALUES ($1, 'other')", _OTHER_TENANT)
        for tenant in (DEFAULT_TENANT, _OTHER_TENANT):
            await uow.raw.execute("INSERT INTO lists (tenant_id, name) VALUES ($1, $2)", tenant, str(tenant))
    seen = []
    for tenant_id in (DEFAULT_TENANT, None, _OTHER_TENANT, None):
        async with house.db.uow(Role.APP, tenant_id) as uow:
            seen.append({row["tenant_id"] for row in await uow.raw.fetch("SELECT tenant_id FROM lists")})
    assert seen == [{DEFAULT_TENANT}, set(), {_OTHER_TENANT}, set()]


async def test_on_a_pool_with_a_role_it_is_that_role_again_afterwards(house: House) -> None:
    db = Database(house.db.url, pool_size=1, role=Role.ENGINE)
    try:
        async with db.uow(Role.APP, DEFAULT_TENANT) as uow:
            await _as_it_should_be(uow)
        async with db.statements() as raw:
            found = await raw.fetchrow("SELECT current_user, current_setting('app.tenant', true)")
            assert (found[0], found[1] or "") == (Role.ENGINE, "")
    finally:
        await db.close()


async def test_a_tenant_that_is_no_id_and_a_role_that_is_none_are_refused(house: House) -> None:
    wrong: Any = "', true); SELECT set_config('role', 'outrider_owner', false) --"
    with pytest.raises(Broken, match="by its id"):
        async with house.db.uow(Role.APP, wrong):
            pass
    wrong_role: Any = "outrider_owner'; --"
    with pytest.raises(ValueError, match="not a valid Role"):
        async with house.db.uow(wrong_role):
            pass


async def _part(uow: UnitOfWork, text: str, then: Callable[[], Awaitable[Any]]) -> None:
    async with uow.savepoint():
        await _note(uow, text)
        await then()


async def test_a_savepoint_is_undone_by_itself_and_what_is_around_it_stands(house: House) -> None:
    async with house.db.uow(Role.APP, DEFAULT_TENANT) as uow:
        await _note(uow, "1 before")
        async with uow.savepoint():
            await _note(uow, "2 inside")
            with pytest.raises(asyncpg.DivisionByZeroError):
                await _part(uow, "3 within that", lambda: uow.raw.execute("SELECT 1 / 0"))
            await _note(uow, "4 after that")
        with pytest.raises(Refused):
            await _part(uow, "5 refused", lambda: _refuse(house, uow))
        async with uow.savepoint(is_kept=False):
            await uow.raw.execute("SET LOCAL statement_timeout = '7s'")
            await _note(uow, "6 only tried")
        assert await uow.raw.fetchval("SHOW statement_timeout") == f"{_BOUND_S // 60}min"
        await _as_it_should_be(uow)
        await _note(uow, "7 after")
    assert await house.notes() == ["1 before", "2 inside", "4 after that", "7 after"]


@pytest.mark.parametrize("way", ["transaction", "statements"])
async def test_the_data_planes_connections_come_back_sound_or_not_at_all(house: House, way: str) -> None:
    db = Database(house.db.url, pool_size=1, role=Role.ENGINE)
    lend = db.transaction if way == "transaction" else db.statements

    async def pid() -> int:
        async with db.statements() as raw:
            assert not raw.is_in_transaction()
            return int(await raw.fetchval("SELECT pg_backend_pid()"))

    try:
        before = await pid()
        with pytest.raises(asyncpg.DivisionByZeroError):
            async with lend() as raw:
                await raw.execute("SELECT 1 / 0")
        assert await pid() == before
        with pytest.raises(Unavailable):
            async with lend() as raw, asyncio.timeout(0.02):
                await raw.execute("SELECT pg_sleep(60)")
        after = await pid()
        assert after != before
        async with db.statements() as raw:
            await raw.execute("BEGIN")
        assert await pid() != after, "nobody gets another's open transaction"
    finally:
        await db.close()


async def test_after_one_connection_was_lost_none_of_its_age_is_handed_out(house: House) -> None:
    size = 3
    db = Database(house.db.url, pool_size=size)

    async def each() -> set[int]:
        met, found = asyncio.Barrier(size), set()

        async def one() -> None:
            async with db.uow(Role.ENGINE) as uow:
                await met.wait()
                found.add(uow.raw.get_server_pid())

        await asyncio.gather(*(one() for _ in range(size)))
        return found

    async def lose_one() -> None:
        async with db.uow(Role.ENGINE) as uow:
            await _end_the_session(house, uow)

    try:
        async with asyncio.timeout(_BOUND_S):
            before = await each()
            assert len(before) == size
            with pytest.raises(Unavailable):
                await lose_one()
            assert not before & await each()
    finally:
        await db.close()


async def test_a_connection_that_ended_while_nobody_used_it_costs_nobody_an_error(house: House) -> None:
    async with house.db.uow(Role.ENGINE) as uow:
        lost = uow.raw
    await house.beside.fetchval("SELECT pg_terminate_backend($1)", lost.get_server_pid())
    async with asyncio.timeout(_BOUND_S):
        while not lost.is_closed():  # noqa: ASYNC110 - the driver has no event for it
            await asyncio.sleep(0.01)
    async with house.db.uow(Role.ENGINE) as uow:
        assert await uow.raw.fetchval("SELECT 1") == 1
