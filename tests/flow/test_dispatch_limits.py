"""Shared limits and what a claim costs: never over by one, a prefix when less is granted, equal statements."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from sqlalchemy import event

from outrider.base.errors import Unavailable
from outrider.contracts.gate import Gate, Lane
from outrider.data.db import Database, Role
from outrider.domain.messages.rows import SQL
from outrider.engine.dispatch.claim import Claim, Claimer
from outrider.engine.dispatch.terms import configured
from tests.kit.buckets import fill
from tests.kit.dispatch import GATES, Desk, Post


@pytest.fixture
async def desk(post: Post) -> Desk:
    return await post.desk()


async def left(desk: Desk, scope: str) -> float:
    found: float = await desk.post.value(
        "SELECT tokens FROM buckets WHERE tenant_id = $1 AND scope = $2", desk.tenant_id, scope
    )
    return round(found, 3)


async def test_four_claimers_at_once_never_exceed_a_bucket_by_one(desk: Desk) -> None:
    await desk.admit(400)
    second = await desk.sender("second")
    await desk.admit(400, sender_id=second)
    lanes = [await desk.lane(), await desk.lane(sender_id=second)]
    await fill(desk, "tenant", 333)
    taken: list[int] = []

    async def work(lane: Lane) -> None:
        claimer = Claimer(desk.post.engine, GATES, lease_s=60)
        for _ in range(12):
            claim = await desk.claim(50, lane=lane, claimer=claimer)
            taken.append(len(claim.batch.messages) if claim.batch else 0)

    await asyncio.gather(*(work(lanes[n % 2]) for n in range(4)))
    assert sum(taken) == 333
    leased = await desk.post.value("SELECT count(*) FROM queue WHERE tenant_id = $1 AND state = 1", desk.tenant_id)
    assert leased == 333
    assert await left(desk, "tenant") == 0


async def test_when_less_is_granted_the_first_ones_go_and_the_rest_stays_ready(desk: Desk) -> None:
    ids = await desk.admit(10)
    await fill(desk, "sender", 4)
    claimer = Claimer(desk.post.engine, GATES, lease_s=60)
    claim = await desk.claim(claimer=claimer)
    assert claim.batch is not None
    assert list(claim.batch.messages) == ids[:4]
    assert claim.why == "rate limit"
    assert await desk.states(ids) == ["sending"] * 4 + ["queued"] * 6
    empty = await desk.claim(claimer=claimer)
    assert (empty.batch, empty.why) == (None, "rate limit")
    assert empty.rest_s > 0
    await fill(desk, "sender", 100)
    rest = await desk.claim(claimer=claimer)
    assert rest.batch is not None
    assert list(rest.batch.messages) == ids[4:]


@pytest.mark.parametrize(("sender", "tenant", "granted"), [(10, 3, 3), (3, 10, 3), (7, 7, 7), (0, 10, 0), (10, 0, 0)])
async def test_the_narrower_limit_holds_and_the_wider_gets_back_what_was_not_used(
    desk: Desk, sender: int, tenant: int, granted: int
) -> None:
    await desk.admit(8)
    await fill(desk, "sender", sender)
    await fill(desk, "tenant", tenant)
    claim = await desk.claim()
    assert len(claim.batch.messages if claim.batch else ()) == granted
    assert await left(desk, "sender") == sender - granted
    assert await left(desk, "tenant") == tenant - granted


async def test_what_a_gate_stops_costs_no_tokens(desk: Desk) -> None:
    await desk.admit(5)
    for n in range(3):
        await desk.suppress(f"p{n}@example.org")
    await fill(desk, "tenant", 100)
    claim = await desk.claim()
    assert claim.batch is not None
    assert (len(claim.batch.messages), claim.settled_count) == (2, 3)
    assert await left(desk, "tenant") == 98


async def test_a_claim_that_is_rolled_back_costs_no_tokens(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    await desk.admit(5)
    await fill(desk, "tenant", 100)

    async def fail(*_: Any) -> None:
        raise Unavailable("database_unavailable", "gone after the tokens were taken")

    monkeypatch.setattr(type(SQL.claim_take), "run", fail)
    with pytest.raises(Unavailable):
        await desk.claim()
    monkeypatch.undo()
    assert await left(desk, "tenant") == 100
    assert await desk.post.value("SELECT count(*) FROM queue WHERE tenant_id = $1 AND state = 1", desk.tenant_id) == 0


async def test_another_senders_bucket_does_not_concern_this_lane(desk: Desk) -> None:
    await desk.admit(3)
    await fill(desk, "sender", 0, scope_id=await desk.sender("other"))
    claim = await desk.claim()
    assert claim.batch is not None
    assert len(claim.batch.messages) == 3


# what a claim costs


class Counting:
    """Counts the statements that reach the server through a pool."""

    def __init__(self, database: Database) -> None:
        self.statements: list[str] = []
        self._database = database

    async def claim(self, lane: Lane, token: int, limit: int, gates: tuple[Gate, ...]) -> tuple[Claim, list[str]]:
        """One claim and what it sent."""
        self.statements.clear()
        claim = await Claimer(self._database, gates, lease_s=60).claim(lane, token, limit=limit)
        await asyncio.sleep(0)  # the driver tells of a statement in the next round of the loop, of COMMIT too
        return claim, list(self.statements)

    def listen(self, connection: asyncpg.Connection) -> None:
        connection.add_query_logger(lambda record: self.statements.append(record.query))


@pytest.fixture
async def counting(post: Post) -> AsyncIterator[Counting]:
    database = Database(post.engine.url, pool_size=1, role=Role.ENGINE)
    counter = Counting(database)

    @event.listens_for(database.engine.sync_engine, "connect")
    def connected(adapted: Any, _record: Any) -> None:
        counter.listen(adapted.driver_connection)

    yield counter
    await database.close()


async def test_a_claim_costs_the_same_statements_for_one_a_hundred_and_a_thousand(
    desk: Desk, counting: Counting
) -> None:
    await desk.admit(1101)
    await fill(desk, "sender", 1e6)
    await fill(desk, "tenant", 1e6)
    lane = await desk.lane()
    await counting.claim(lane, await desk.post.token(), 1, ())  # the first use of a connection prepares
    await desk.post.execute("UPDATE queue SET state = 0 WHERE tenant_id = $1", desk.tenant_id)
    costs = {}
    for size in (1, 100, 1000):
        claim, sent = await counting.claim(lane, await desk.post.token(), size, GATES)
        assert claim.batch is not None
        assert len(claim.batch.messages) == size
        costs[size] = sent
    assert costs[1] == costs[100] == costs[1000]
    # begin, commit; lock, terms, pick, read, two buckets, take
    assert len(costs[1]) == 2 + _asked(lane) + 7, costs[1]


async def test_settling_what_gates_stop_costs_two_statements_however_many(desk: Desk, counting: Counting) -> None:
    for n in range(100):
        await desk.suppress(f"p{n}@example.org")
    lane = await desk.lane()
    costs = []
    for size in (1, 1, 100):  # the driver asks about the types of a new connection in the first one
        await desk.admit(size)
        claim, sent = await counting.claim(lane, await desk.post.token(), 1000, GATES)
        assert claim.settled_count == size
        costs.append(sent)
    assert costs[1] == costs[2]
    assert sum("UPDATE messages" in statement for statement in costs[2]) == 1


def _asked(lane: Lane) -> int:
    """The questions of the gates that a lane of a tenant without settings concerns, while nothing is switched off."""
    return sum(
        bool(gate.facts) + bool(gate.lane_facts and not gate.is_switch)
        for gate in configured(GATES, {})
        if gate.concerns(lane)
    )
