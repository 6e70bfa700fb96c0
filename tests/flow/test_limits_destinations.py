"""Rates of destinations and connections at the claim: never over by one, and no domain waits for another."""

from __future__ import annotations

import asyncio
from collections import Counter
from itertools import pairwise
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from sqlalchemy import event

from outrider.base.errors import Refused
from outrider.base.ids import NIL
from outrider.contracts.actor import Actor
from outrider.contracts.gate import Lane
from outrider.data.db import Database, Role
from outrider.domain.limits import buckets, destinations, turns
from outrider.domain.limits.rows import PACES
from outrider.domain.messages import holds
from outrider.engine.dispatch.claim import Claim, Claimer
from outrider.engine.dispatch.pacing import by_connection
from outrider.engine.maintenance.upkeep import Upkeep
from tests.kit.dispatch import GATES, Desk, Post

ANN = Actor("user", "ann@example.org")
ENDLESS = 0.001
"""A rate that gives next to nothing back while a test runs."""


@pytest.fixture
async def desk(post: Post) -> Desk:
    return await post.desk()


async def limit(desk: Desk, domain: str, rate: float, burst: float, *, installation: bool = False) -> None:
    place = NIL if installation else desk.tenant_id
    async with desk.post.engine.uow(Role.ENGINE, place) as uow:
        await destinations.set_rate(uow, ANN, "email", domain, rate, burst)


def went(claim: Claim) -> Counter[str]:
    messages = claim.batch.messages.values() if claim.batch else ()
    return Counter(claimed.address.rpartition("@")[2] for claimed in messages)


async def claims(desk: Desk, lanes: list[Lane], *, workers: int = 4, rounds: int = 8) -> Counter[str]:
    """What several claimers get together."""
    found: Counter[str] = Counter()

    async def work(number: int) -> None:
        claimer = Claimer(desk.post.engine, GATES, lease_s=60)
        for _ in range(rounds):
            found.update(went(await desk.claim(50, lane=lanes[number % len(lanes)], claimer=claimer)))

    await asyncio.gather(*(work(number) for number in range(workers)))
    return found


async def test_a_rate_can_be_changed_where_no_further_one_may_be_made(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(destinations, "MOST", 1)
    await limit(desk, "gmail.com", 1, 1)
    await limit(desk, "gmail.com", 2, 1)
    with pytest.raises(Refused, match="at most 1 destinations"):
        await limit(desk, "example.org", 1, 1)


async def test_four_claimers_in_two_lanes_never_exceed_a_domain_by_one_and_hold_up_no_other(desk: Desk) -> None:
    second = await desk.sender("second")
    for sender_id in (desk.sender_id, second):
        await desk.admit(100, address="p{}@gmail.com", sender_id=sender_id)
        await desk.admit(60, address="p{}@example.org", sender_id=sender_id)
    await limit(desk, "gmail.com", ENDLESS, 37)
    lanes = [await desk.lane(), await desk.lane(sender_id=second)]
    assert await claims(desk, lanes, rounds=12) == {"gmail.com": 37, "example.org": 120}


async def test_what_has_no_turn_yet_is_held_with_it_and_says_why(desk: Desk) -> None:
    ids = await desk.admit(4, address="p{}@gmail.com")
    await limit(desk, "gmail.com", 0.5, 1)
    claim = await desk.claim()
    assert claim.batch is not None
    assert list(claim.batch.messages) == ids[:1]
    rows = await desk.post.fetch(
        "SELECT extract(epoch FROM due_at - now())::float8 AS in_s, reason FROM queue WHERE message_id = ANY ($1) "
        "ORDER BY due_at",
        ids[1:],
    )
    assert {row["reason"] for row in rows} == {
        "destination_rate: gmail.com: it takes 0.5 a second, and its turn comes then"
    }
    assert [later["in_s"] - row["in_s"] for row, later in pairwise(rows)] == pytest.approx([2, 2])
    assert await desk.events(ids[3]) == ["held"]


async def test_a_domain_of_its_own_goes_before_the_installations_and_each_tenant_has_its_bucket(post: Post) -> None:
    domain = f"d{uuid4().hex}.example"
    one, other = await post.desk(), await post.desk()
    await limit(one, domain, ENDLESS, 5, installation=True)
    await limit(other, domain, ENDLESS, 2)
    for desk in (one, other):
        await desk.admit(8, address=f"p{{}}@{domain}")
    assert went(await one.claim())[domain] == 5
    assert went(await other.claim())[domain] == 2


async def test_a_new_rate_is_asked_about_what_the_one_before_holds(desk: Desk) -> None:
    ids = await desk.admit(5, address="p{}@gmail.com")
    await limit(desk, "gmail.com", ENDLESS, 1)
    await desk.claim()
    async with desk.post.engine.uow(Role.ENGINE, desk.tenant_id) as uow:
        rate, whose = await destinations.set_rate(uow, ANN, "email", "gmail.com", 1e6, 100)
        assert whose == [desk.tenant_id]
        assert await holds.release(uow, f"{destinations.GATE}: {rate.destination}") == 4
    await desk.post.execute("UPDATE queue SET state = 0 WHERE tenant_id = $1 AND state = 5", desk.tenant_id)
    claim = await desk.claim()
    assert claim.batch is not None
    assert set(claim.batch.messages) == set(ids[1:])


async def test_a_rate_that_is_cleared_limits_nobody_and_both_are_audited(desk: Desk) -> None:
    await limit(desk, "gmail.com", ENDLESS, 1)
    async with desk.post.engine.uow(Role.ENGINE, desk.tenant_id) as uow:
        was, _whose = await destinations.clear(uow, ANN, "email", "GMail.com")
        assert was is not None
        assert was.burst == 1
        assert (await destinations.clear(uow, ANN, "email", "gmail.com"))[0] is None
        found = await uow.raw.fetch("SELECT action, target_id FROM audit_log WHERE tenant_id = $1", desk.tenant_id)
    assert [tuple(row) for row in found] == [("rate.set", "gmail.com"), *[("rate.clear", "gmail.com")] * 2]
    await desk.admit(3, address="p{}@gmail.com")
    assert went(await desk.claim())["gmail.com"] == 3


async def test_what_another_limit_keeps_back_costs_its_domain_nothing(desk: Desk) -> None:
    await desk.admit(10, address="p{}@gmail.com")
    await limit(desk, "gmail.com", ENDLESS, 10)
    async with desk.post.engine.uow(Role.ENGINE, desk.tenant_id) as uow:
        await buckets.set_rate(uow, ANN, "sender", desk.sender_id, ENDLESS, 3)
    assert went(await desk.claim())["gmail.com"] == 3
    assert (
        round(await desk.post.value("SELECT tokens FROM destination_buckets WHERE tenant_id = $1", desk.tenant_id)) == 7
    )


async def test_turns_given_out_to_bulk_do_not_keep_a_transactional_message_waiting(desk: Desk) -> None:
    await desk.admit(50, address="p{}@gmail.com", message_class="bulk")
    await limit(desk, "gmail.com", 10, 10)
    bulk = await desk.lane(message_class="bulk")
    assert went(await desk.claim(lane=bulk, gates=()))["gmail.com"] == 10
    (urgent,) = await desk.admit(1, address="p{}@gmail.com")
    await desk.claim(lane=await desk.lane())
    due = await desk.post.value("SELECT due_at < now() + interval '1 second' FROM queue WHERE message_id = $1", urgent)
    assert due is not False, "it has its own turn, not one behind forty"


async def test_the_accounts_of_senders_that_share_a_connection_share_its_rate(desk: Desk) -> None:
    second = await desk.sender("second")
    for sender_id in (desk.sender_id, second):
        await desk.admit(50, sender_id=sender_id)
    async with desk.post.engine.uow(Role.ENGINE, desk.tenant_id) as uow:
        await buckets.set_rate(uow, ANN, "connection", desk.connection_id, ENDLESS, 41)
    lanes = [await desk.lane(), await desk.lane(sender_id=second)]
    assert (await claims(desk, lanes)).total() == 41


async def test_a_connection_that_takes_over_is_asked_for_its_own_rate(desk: Desk) -> None:
    connection = desk.connection_id
    async with desk.post.engine.transaction() as raw:
        assert (await by_connection(raw, desk.tenant_id, connection, 7)).count == 7
    async with desk.post.engine.uow(Role.ENGINE, desk.tenant_id) as uow:
        await buckets.set_rate(uow, ANN, "connection", connection, ENDLESS, 5)
    async with desk.post.engine.transaction() as raw:
        grants = [await by_connection(raw, desk.tenant_id, connection, 3) for _ in range(3)]
    assert [(grant.count, grant.rate_per_s) for grant in grants] == [(3, 0.0), (2, ENDLESS), (0, ENDLESS)]


async def test_rates_for_what_does_not_exist_or_makes_no_sense_are_refused(desk: Desk) -> None:
    for rate, burst, domain, code in ((0, 1, "a.example", "invalid_rate"), (1, 0.5, "a.example", "invalid_rate"),
                                      (1, 1, "nonsense", "invalid_destination")):  # fmt: skip
        with pytest.raises(Refused) as caught:
            await limit(desk, domain, rate, burst)
        assert caught.value.code == code
    async with desk.post.engine.uow(Role.ENGINE, desk.tenant_id) as uow:
        with pytest.raises(Refused) as caught:
            await buckets.set_rate(uow, ANN, "connection", uuid4(), 5)
    assert caught.value.code == "not_found"


async def test_upkeep_drops_turns_and_buckets_that_are_long_over(desk: Desk) -> None:
    await desk.admit(3, address="p{}@gmail.com")
    await limit(desk, "gmail.com", 1, 1)
    await desk.claim()
    for table, column in (("destination_turns", "next_s"), ("destination_buckets", "at_s")):
        await desk.post.execute(
            f"UPDATE {table} SET {column} = {column} - 3 * 86400 WHERE tenant_id = $1",
            desk.tenant_id,
        )
    await Upkeep(desk.post.runtime).retention()
    for table in ("destination_turns", "destination_buckets"):
        left = await desk.post.value(f"SELECT count(*) FROM {table} WHERE tenant_id = $1", desk.tenant_id)
        assert left == 0


async def test_a_bucket_that_upkeep_drops_between_two_looks_is_made_anew_and_limits(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    await limit(desk, "gmail.com", ENDLESS, 3)
    await limit(desk, "web.de", ENDLESS, 2)
    await desk.admit(10, address="p{}@gmail.com")
    await desk.admit(10, address="p{}@web.de")
    for name in ("gmail.com", "web.de"):  # full, as a bucket is that nothing was taken from for days
        await desk.post.execute(
            "INSERT INTO destination_buckets (tenant_id, channel, destination, tokens, at_s)"
            " VALUES ($1, 'email', $2, 3, 0)",
            desk.tenant_id,
            name,
        )
    look = PACES.destination_limited

    class Purged:
        """The look at what has a bucket, with upkeep right behind it."""

        is_done = False

        async def many(self, raw: asyncpg.Connection, *given: Any) -> list[asyncpg.Record]:
            found = await look.many(raw, *given)
            if not self.is_done:
                self.is_done = True
                await desk.post.execute("DELETE FROM destination_buckets WHERE destination = 'gmail.com'")
            return found

    monkeypatch.setattr(turns, "SQL", Replaced(PACES, destination_limited=Purged()))
    assert went(await desk.claim()) == {"gmail.com": 3, "web.de": 2}


class Replaced:
    """Statements, some of them others."""

    def __init__(self, statements: Any, **others: Any) -> None:
        self._statements, self._others = statements, others

    def __getattr__(self, name: str) -> Any:
        return self._others.get(name) or getattr(self._statements, name)


async def test_a_limited_domain_costs_the_same_statements_whatever_the_number(desk: Desk) -> None:
    database = Database(desk.post.engine.url, pool_size=1, role=Role.ENGINE)
    sent: list[str] = []

    @event.listens_for(database.engine.sync_engine, "connect")
    def connected(adapted: Any, _record: Any) -> None:
        connection: asyncpg.Connection = adapted.driver_connection
        connection.add_query_logger(lambda record: sent.append(record.query))

    await limit(desk, "gmail.com", 1e6, 1e6)
    await desk.admit(1200, address="p{}@gmail.com")
    lane, costs = await desk.lane(), []
    try:
        for size in (1, 1, 100, 1000):  # the first prepares, and makes the bucket
            sent.clear()
            claim = await Claimer(database, GATES, lease_s=60).claim(lane, await desk.post.token(), limit=size)
            assert went(claim)["gmail.com"] == size
            costs.append([statement for statement in sent if "destination_" in statement])
    finally:
        await database.close()
    assert costs[1] == costs[2] == costs[3]
    assert len(costs[1]) == 4, "terms, which are limited, lock, write"
