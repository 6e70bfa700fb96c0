"""The audit log's chain on a real database: appended by several processes, cut, changed, pruned."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from uuid import UUID

import asyncpg
import pytest

from outrider.base.clock import utc_now
from outrider.base.ids import DEFAULT_TENANT, NIL
from outrider.contracts.actor import Actor
from outrider.data.db import Database, Role
from outrider.domain.audit.append import append
from outrider.domain.audit.listing import listed
from outrider.domain.audit.prune import prune
from outrider.domain.audit.verify import Verified, heads, verify

ANN = Actor("user", "ann@example.org", "127.0.0.1")
APPENDER = """
import asyncio, sys
from outrider.base.ids import DEFAULT_TENANT
from outrider.contracts.actor import Actor
from outrider.data.db import Database, Role
from outrider.domain.audit.append import append

async def main(url, name, count):
    db = Database(url, pool_size=4)
    async def one(number):
        async with db.uow(Role.APP, DEFAULT_TENANT) as uow:
            actor, target = Actor("user", name), ("n", str(number))
            await append(uow, actor, action="test.append", target=target, details={"n": number / 7})
    for first in range(0, count, 4):
        await asyncio.gather(*(one(number) for number in range(first, first + 4)))
    await db.close()

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


@pytest.fixture
async def db(new_database: Callable[..., str]) -> AsyncIterator[Database]:
    made = Database(new_database("migrated"), pool_size=4)
    yield made
    await made.close()


async def add(db: Database, count: int, tenant: UUID = DEFAULT_TENANT) -> None:
    for number in range(count):
        async with db.uow(Role.APP, tenant) as uow:
            await append(uow, ANN, action="test.append", target=("n", str(number)), details={"é": [1.5, None, "\0"]})


async def checked(db: Database, tenant: UUID = DEFAULT_TENANT) -> Verified:
    async with db.uow(Role.APP, tenant) as uow:
        return await verify(uow, tenant)


async def owner_runs(db: Database, sql: str) -> None:
    connection = await asyncpg.connect(db.url)
    try:
        await connection.execute("SET ROLE outrider_owner")
        assert await connection.execute(sql) != "UPDATE 0"
    finally:
        await connection.close()


async def test_two_processes_appending_a_thousand_entries_each_make_one_unbroken_chain(db: Database) -> None:
    processes = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", APPENDER, db.url, name, "1000")
        for name in ("a", "b")
    ]
    assert [await asyncio.wait_for(process.wait(), 300) for process in processes] == [0, 0]
    found = await checked(db)
    assert (found.problem, found.count, found.first_seq, found.last_seq) == ("", 2000, 1, 2000)


async def test_an_empty_chain_is_whole(db: Database) -> None:
    found = await checked(db)
    assert found.is_whole
    assert found.count == 0


@pytest.mark.parametrize(
    ("damage", "problem", "at_seq"),
    [
        ("DELETE FROM audit_log WHERE seq > 8", "the tail is cut", 8),
        ("DELETE FROM audit_log", "the tail is cut", 0),
        ("DELETE FROM audit_log WHERE seq = 5", "entries 5 to 5 are missing", 6),
        ("DELETE FROM audit_log WHERE seq < 3", "entries before this one are missing", 3),
        ("UPDATE audit_log SET reason = 'another' WHERE seq = 4", "it was changed", 4),
        ("UPDATE audit_log SET at = at + interval '1 microsecond' WHERE seq = 4", "it was changed", 4),
        ("UPDATE audit_log SET details = '{}' WHERE seq = 4", "it was changed", 4),
        ("UPDATE audit_log SET ip = NULL WHERE seq = 4", "it was changed", 4),
        ("UPDATE audit_log SET hash = decode(repeat('00', 32), 'hex') WHERE seq = 4", "it was changed", 4),
        ("UPDATE audit_log SET previous_hash = hash WHERE seq = 4", "it does not follow", 4),
        ("UPDATE audit_heads SET hash = decode(repeat('00', 32), 'hex')", "the head does not fit", 10),
        ("DELETE FROM audit_heads", "head is missing", 10),
        (
            "UPDATE audit_heads SET seq = 7, hash = (SELECT hash FROM audit_log WHERE seq = 7)",
            "the head does not fit the entries",
            7,
        ),
    ],
)
async def test_what_was_done_to_a_chain_is_found_where_it_was_done(
    db: Database, damage: str, problem: str, at_seq: int
) -> None:
    await add(db, 10)
    assert (await checked(db)).is_whole
    await owner_runs(db, damage)
    found = await checked(db)
    assert problem in found.problem
    assert found.at_seq == at_seq


async def test_the_head_kept_elsewhere_shows_a_tail_that_was_cut_together_with_its_head(db: Database) -> None:
    await add(db, 5)
    async with db.uow(Role.ENGINE) as uow:
        (before,) = await heads(uow)
    await owner_runs(db, "DELETE FROM audit_log WHERE seq > 4")
    await owner_runs(db, "UPDATE audit_heads SET seq = 4, hash = (SELECT hash FROM audit_log WHERE seq = 4)")
    assert (await checked(db)).is_whole
    async with db.uow(Role.ENGINE) as uow:
        (after,) = await heads(uow)
    assert (before.seq, after.seq) == (5, 4)


async def test_chains_of_tenants_are_separate(db: Database) -> None:
    await add(db, 3)
    async with db.uow(Role.ENGINE) as uow:
        await append(uow, ANN, action="test.append", target=("n", "1"))
        await append(uow, ANN, action="test.append", target=("n", "2"), tenant_id=DEFAULT_TENANT)
    async with db.uow(Role.ENGINE) as uow:
        assert [(head.tenant_id, head.seq) for head in await heads(uow)] == [(NIL, 1), (DEFAULT_TENANT, 4)]
        assert (await verify(uow, NIL)).count == 1
    assert (await checked(db)).count == 4


async def test_an_entry_of_a_change_that_was_rolled_back_is_rolled_back_with_it(db: Database) -> None:
    async def fail() -> None:
        async with db.uow(Role.APP, DEFAULT_TENANT) as uow:
            await append(uow, ANN, action="test.append", target=("n", "x"))
            raise RuntimeError

    await add(db, 1)
    with pytest.raises(RuntimeError):
        await fail()
    await add(db, 1)
    found = await checked(db)
    assert (found.is_whole, found.count) == (True, 2)


async def test_the_app_role_can_neither_change_nor_delete_an_entry(db: Database) -> None:
    await add(db, 1)
    for sql in ("DELETE FROM audit_log", "UPDATE audit_log SET reason = ''", "DELETE FROM audit_heads"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with db.uow(Role.APP, DEFAULT_TENANT) as uow:
                await uow.raw.execute(sql)


async def test_pruning_leaves_a_chain_that_is_whole_and_says_what_was_pruned(db: Database) -> None:
    await add(db, 5)
    async with db.uow(Role.ENGINE) as uow:
        assert await prune(uow, ANN, DEFAULT_TENANT, utc_now() - timedelta(days=1)) == 0
    middle = utc_now()
    await add(db, 3)
    async with db.uow(Role.ENGINE) as uow:
        assert await prune(uow, ANN, DEFAULT_TENANT, middle) == 5
    await add(db, 1)
    found = await checked(db)
    assert (found.problem, found.first_seq, found.last_seq) == ("", 6, 10)
    async with db.uow(Role.ENGINE) as uow:
        assert await prune(uow, ANN, DEFAULT_TENANT, utc_now()) == 5
    assert (await checked(db)).is_whole


async def test_a_beginning_taken_away_after_a_pruning_is_found(db: Database) -> None:
    await add(db, 5)
    async with db.uow(Role.ENGINE) as uow:
        await prune(uow, ANN, DEFAULT_TENANT, utc_now())
    await add(db, 3)
    await owner_runs(db, "DELETE FROM audit_log WHERE seq < 8")
    assert "entries before this one are missing" in (await checked(db)).problem


async def test_the_log_is_read_newest_first_in_pages_and_by_filter(db: Database) -> None:
    await add(db, 5)
    async with db.uow(Role.APP, DEFAULT_TENANT) as uow:
        first = await listed(uow, limit=2)
        second = await listed(uow, before_seq=first[-1].seq, limit=2)
        found = await listed(uow, target="3")
        none = await listed(uow, actor="bob")
    assert [entry.seq for entry in first + second] == [5, 4, 3, 2]
    assert [entry.seq for entry in found] == [4]
    assert none == []
    assert first[0].details == {"é": ["1.5", None, "\ufffd"]}
