"""Lanes whose rate is used up: nothing is picked in vain, what may go goes, and changes are noticed."""

from __future__ import annotations

import asyncio
import random
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from outrider.contracts.actor import Actor
from outrider.data.sql import Statement
from outrider.domain.limits import buckets
from outrider.domain.messages.rows import SQL
from outrider.engine.dispatch import pacing
from outrider.engine.dispatch.claim import Claimer
from outrider.engine.dispatch.pacing import LONGEST_REST_S
from outrider.engine.dispatch.terms import TermsReader
from tests.kit.buckets import fill
from tests.kit.dispatch import GATES, Desk, Post
from tests.kit.processes import until

ANN = Actor("user", "ann")


@pytest.fixture
async def desk(post: Post) -> Desk:
    return await post.desk()


@pytest.fixture
def picks(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Every pick from here on: its lane, and how many it was to give at most."""
    seen: list[tuple[int, int]] = []
    many = Statement.many

    async def noted(self: Statement, raw: asyncpg.Connection, *args: Any) -> list[asyncpg.Record]:
        if self.name == "claim_pick":
            seen.append((args[1], args[2]))
        return await many(self, raw, *args)

    monkeypatch.setattr(Statement, "many", noted)
    assert SQL.claim_pick.name == "claim_pick"
    return seen


async def sizes(desk: Desk, claimer: Claimer, limit: int = 200) -> int:
    """How many messages one claim gives."""
    claim = await desk.claim(limit, claimer=claimer)
    return len(claim.batch.messages) if claim.batch else 0


async def test_a_lane_that_met_its_rate_is_picked_from_only_as_far_as_something_may_go(
    desk: Desk, picks: list[tuple[int, int]]
) -> None:
    ids, lane = await desk.admit(100), (await desk.lane()).id
    claimer = Claimer(desk.post.engine, GATES, lease_s=60)
    await fill(desk, "sender", 4)
    first = await desk.claim(200, claimer=claimer)
    assert first.batch is not None
    assert (len(first.batch.messages), first.why, picks) == (4, "rate limit", [(lane, 200)])
    assert LONGEST_REST_S / 2 < first.rest_s <= LONGEST_REST_S, "nothing will come together for a long time"
    empty = await desk.claim(200, claimer=claimer)
    assert (empty.batch, empty.why, empty.is_drained, len(picks)) == (None, "rate limit", False, 1)
    assert LONGEST_REST_S / 2 < empty.rest_s <= LONGEST_REST_S
    await fill(desk, "sender", 3.7)
    some = await desk.claim(200, claimer=claimer)
    assert some.batch is not None
    assert list(some.batch.messages) == ids[4:7]
    assert (some.why, some.is_drained, picks[1:]) == ("rate limit", False, [(lane, 3)])
    await fill(desk, "sender", 1000)
    assert [await sizes(desk, claimer, 50), await sizes(desk, claimer, 50)] == [50, 43]
    assert picks[2:] == [(lane, 50), (lane, 50)]


async def test_a_rate_that_was_lifted_holds_a_lane_up_no_more(desk: Desk, picks: list[tuple[int, int]]) -> None:
    await desk.admit(30)
    claimer = Claimer(desk.post.engine, GATES, lease_s=60)
    await fill(desk, "tenant", 2)
    assert [await sizes(desk, claimer), await sizes(desk, claimer)] == [2, 0]
    async with desk.engine() as uow:
        await buckets.clear(uow, ANN, "tenant", desk.tenant_id)
    assert await sizes(desk, claimer) == 28
    assert [most for _, most in picks] == [200, 200]


async def test_a_lane_found_empty_is_no_longer_taken_for_one_that_met_its_rate(
    desk: Desk, picks: list[tuple[int, int]]
) -> None:
    await desk.admit(3)
    claimer = Claimer(desk.post.engine, GATES, lease_s=60)
    await fill(desk, "sender", 2)
    assert await sizes(desk, claimer) == 2
    await desk.post.execute("DELETE FROM queue WHERE tenant_id = $1", desk.tenant_id)
    await fill(desk, "sender", 2)
    assert await sizes(desk, claimer) == 0
    await desk.admit(3)
    assert await sizes(desk, claimer) == 2
    assert picks[-1][1] == 200


async def test_what_gates_stop_is_settled_by_the_hundred_also_where_next_to_nothing_may_go(
    desk: Desk, picks: list[tuple[int, int]]
) -> None:
    await desk.admit(60)
    claimer = Claimer(desk.post.engine, GATES, lease_s=60)
    await fill(desk, "sender", 1)
    assert [await sizes(desk, claimer), await sizes(desk, claimer)] == [1, 0]
    for n in range(1, 60):
        await desk.suppress(f"p{n}@example.org")
    await fill(desk, "sender", 2)
    claims = [await desk.claim(200, claimer=claimer) for _ in range(2)]
    assert [(claim.batch, claim.settled_count, claim.rest_s) for claim in claims] == [(None, 2, 0.0), (None, 57, 0.0)]
    assert [most for _, most in picks] == [200, 2, 200]


async def test_a_message_of_higher_priority_gets_the_next_token(desk: Desk) -> None:
    await desk.admit(10)
    claimer = Claimer(desk.post.engine, GATES, lease_s=60)
    await fill(desk, "sender", 0)
    assert await sizes(desk, claimer) == 0
    for _ in range(3):
        (urgent,) = await desk.admit(priority=0)
        await fill(desk, "sender", 1)
        claim = await desk.claim(200, claimer=claimer)
        assert claim.batch is not None
        assert list(claim.batch.messages) == [urgent]


async def test_two_claims_of_a_worker_do_not_ask_a_lane_at_once_that_met_its_rate(
    desk: Desk, picks: list[tuple[int, int]]
) -> None:
    await desk.admit(20)
    claimer = Claimer(desk.post.engine, GATES, lease_s=60)
    await fill(desk, "sender", 0)
    assert await sizes(desk, claimer) == 0
    await fill(desk, "sender", 5)
    lane = await desk.lane()
    tokens = [await desk.post.token() for _ in range(3)]
    claims = await asyncio.gather(*(claimer.claim(lane, token, limit=200) for token in tokens))
    assert sorted(len(claim.batch.messages) if claim.batch else 0 for claim in claims) == [0, 0, 5]
    assert [most for _, most in picks] == [200, 5]
    assert {claim.why for claim in claims} == {"rate limit"}
    assert all(0 < claim.rest_s < 0.05 for claim in claims if claim.batch is None), "the first says for how long"
    await fill(desk, "sender", 5)
    assert await sizes(desk, claimer) == 5


async def test_two_workers_that_look_first_never_take_more_than_there_is(desk: Desk) -> None:
    await desk.admit(200)
    workers = [Claimer(desk.post.engine, GATES, lease_s=60) for _ in range(2)]
    await fill(desk, "sender", 0)
    assert [await sizes(desk, each) for each in workers] == [0, 0]
    for tokens in (1, 7.9, 40, 3):
        await fill(desk, "sender", tokens)
        assert sum([await sizes(desk, each) for each in workers for _ in range(2)]) == int(tokens)


async def test_what_is_said_to_be_there_is_what_is_given(desk: Desk) -> None:
    """Every bucket counts, an account that others use too, and no bucket of an account that nobody has any more."""
    luck = random.Random(7)  # noqa: S311 - the same every time
    lane = await desk.lane()
    account = desk.tenant_id.hex
    await desk.post.execute("UPDATE connections SET account = $2 WHERE tenant_id = $1", desk.tenant_id, account)
    await desk.post.execute(
        "INSERT INTO account_buckets (tenant_id, account, rate, cap, tokens) "
        "VALUES ('00000000-0000-0000-0000-000000000000', $1, 777, 1, 0)", account,
    )  # fmt: skip
    seen = set()
    for _ in range(40):
        await fill(desk, "sender", luck.choice((0, 0.5, 30, 60.9)), cap=100)
        await fill(desk, "connection", luck.choice((0, 1, 40)), cap=100)
        await fill(desk, "tenant", luck.choice((0.9, 20, 50)), cap=100)
        await desk.post.execute("UPDATE account_buckets SET tokens = $2 WHERE account = $1 AND rate < 1",
                                account, float(luck.choice((0, 10, 100))))  # fmt: skip
        async with desk.post.engine.transaction() as raw:
            terms = await TermsReader(GATES).read(raw, lane)
            throttled = pacing.Throttled()
            rest_s = await throttled.note(raw, lane, terms, 500, is_met=True)
            there, _ = await throttled.ask(raw, lane, terms, 500)
            given, _ = await pacing.reserve(raw, lane, 500, terms)
        assert there == given
        assert 0.0 <= rest_s <= LONGEST_REST_S
        seen.add(given)
    assert len(seen) > 3


async def test_a_lane_without_any_bucket_is_not_bounded(desk: Desk) -> None:
    lane = await desk.lane()
    async with desk.post.engine.transaction() as raw:
        terms = await TermsReader(GATES).read(raw, lane)
        throttled = pacing.Throttled()
        assert await throttled.note(raw, lane, terms, 500, is_met=True) == 0.0
        assert await throttled.ask(raw, lane, terms, 500) == (500, 0.0)


# a whole worker


async def test_a_worker_picks_from_a_lane_without_a_token_once_while_others_go(
    post: Post, desk: Desk, picks: list[tuple[int, int]]
) -> None:
    throttled = await desk.lane()
    await desk.admit(50)
    await fill(desk, "sender", 0)
    other = await desk.sender("other")
    async with post.working():
        for round_ in range(30):
            await desk.admit(2, sender_id=other, address=f"r{round_}-{{}}@example.org")
            await until(lambda: _gone(desk, other), what="what may go goes")
    seen = [lane for lane, _ in picks]
    assert seen.count(throttled.id) == 1
    assert seen.count((await desk.lane(sender_id=other)).id) > 10


async def test_a_worker_notices_that_a_rate_was_raised(post: Post, desk: Desk) -> None:
    ids = await desk.admit(40)
    await fill(desk, "sender", 1)
    async with post.working():
        await until(lambda: _is_sent(desk, ids[:1]), what="the first goes")
        async with desk.engine() as uow:
            await buckets.set_rate(uow, ANN, "sender", desk.sender_id, 1000.0)
        await until(lambda: _is_sent(desk, ids), what="the others go")


async def test_a_lane_that_is_kept_to_a_rate_is_picked_from_a_slice_at_a_time(
    post: Post, desk: Desk, picks: list[tuple[int, int]]
) -> None:
    ids = await desk.admit(80)
    await fill(desk, "sender", 0, rate=40.0, cap=40.0)
    async with post.working():
        await until(lambda: _is_sent(desk, ids), what="all of them go")
    own = (await desk.lane()).id
    assert [lane for lane, _ in picks].count(own) <= 20, "not one by one, as they may go"


async def _gone(desk: Desk, sender_id: UUID) -> bool:
    return not await desk.post.value(
        "SELECT count(*) FROM queue q JOIN lanes l ON l.tenant_id = q.tenant_id AND l.id = q.lane_id "
        "WHERE q.tenant_id = $1 AND l.sender_id = $2", desk.tenant_id, sender_id,
    )  # fmt: skip


async def _is_sent(desk: Desk, ids: list[UUID]) -> bool:
    return set(await desk.states(ids)) == {"sent"}
