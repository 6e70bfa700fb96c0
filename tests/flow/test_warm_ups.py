"""Warm-ups on a real database: a day's allowance is never exceeded by one, and plans go on by themselves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from outrider.base.errors import Refused
from outrider.contracts.actor import Actor
from outrider.contracts.gate import Lane
from outrider.contracts.outcome import Accepted, Deferred, Unsent
from outrider.data.db import Role
from outrider.domain.limits import allowances, buckets, plans, warm_ups
from outrider.domain.limits.plans import Step
from outrider.domain.limits.warm_ups import Options, WarmUp
from outrider.domain.messages import holds
from outrider.engine.dispatch.claim import Claim, Claimer
from outrider.engine.dispatch.record import row_for, write
from outrider.engine.maintenance import warming
from outrider.engine.maintenance.upkeep import Upkeep
from outrider.engine.maintenance.warming import release_freed
from tests.kit.dispatch import GATES, Desk, Post
from tests.kit.noon import at_noon

ANN = Actor("user", "ann@example.org")


@pytest.fixture
async def desk(post: Post) -> Desk:
    """A tenant in whose zone it is about noon, so that no day ends while a test runs."""
    return await at_noon(await post.desk())


async def begin(desk: Desk, *per_day: int | Step, **options: Any) -> WarmUp:
    steps = [each if isinstance(each, Step) else Step(each) for each in per_day]
    async with desk.engine() as uow:
        return await warm_ups.begin(uow, ANN, desk.sender_id, plans.OWN, steps=steps, options=Options(**options))


async def plan(desk: Desk) -> WarmUp:
    async with desk.engine() as uow:
        return await warm_ups.get(uow, desk.sender_id)


async def day_is_over(desk: Desk) -> None:
    """Time flies by a day: what is held for it is ready."""
    await desk.post.execute(
        "UPDATE warm_ups SET day_on = day_on - 1, day_began_at = day_began_at - interval '1 day',"
        " day_ends_at = now(), hour_ends_at = now() WHERE tenant_id = $1",
        desk.tenant_id,
    )
    await desk.post.execute("UPDATE queue SET state = 0 WHERE tenant_id = $1 AND state = 5", desk.tenant_id)


def count(claim: Claim) -> int:
    return len(claim.batch.messages) if claim.batch else 0


async def record(desk: Desk, claim: Claim, *outcomes: Any) -> None:
    """Write outcomes of a claim, one for each message, the last one for the rest."""
    assert claim.batch is not None
    given = [*outcomes, *[outcomes[-1]] * (len(claim.batch.messages) - len(outcomes))]
    rows = [
        row_for(
            message_id, claim.batch.token, outcome, attempt=1, may_repeat=False, settings=desk.post.runtime.settings
        )
        for message_id, outcome in zip(claim.batch.messages, given, strict=True)
    ]
    async with desk.engine() as uow:
        await write(uow.raw, desk.tenant_id, rows)


async def test_four_claimers_in_two_lanes_never_exceed_a_day_by_one(desk: Desk) -> None:
    await begin(desk, 37, 50)
    await desk.admit(100)
    await desk.admit(100, message_class="bulk")
    lanes = [await desk.lane(), await desk.lane("bulk")]
    taken: list[int] = []

    async def work(lane: Lane) -> None:
        claimer = Claimer(desk.post.engine, (), lease_s=60)
        taken.extend([count(await desk.claim(10, lane=lane, claimer=claimer)) for _ in range(8)])

    await asyncio.gather(*(work(lanes[n % 2]) for n in range(4)))
    assert sum(taken) == 37
    assert (await plan(desk)).day_sent == 37


async def test_what_is_beyond_the_day_is_held_until_the_next_one_and_says_why(desk: Desk) -> None:
    made = await begin(desk, 3, 50)
    ids = await desk.admit(5)
    claim = await desk.claim()
    assert claim.batch is not None
    assert list(claim.batch.messages) == ids[:3]
    for message_id in ids[3:]:
        row = await desk.queued(message_id)
        assert row is not None
        assert (row["due_at"], row["reason"]) == (made.day_ends_at, "warm_up: day 1 of 2: 3 of 3 sent")
    await record(desk, claim, Accepted())
    await day_is_over(desk)
    assert count(await desk.claim()) == 2
    assert (await plan(desk)).step == 2


async def test_an_hour_bounds_as_well(desk: Desk) -> None:
    await begin(desk, Step(100, 4))
    (*_, last) = await desk.admit(6)
    assert count(await desk.claim()) == 4
    row = await desk.queued(last)
    assert row is not None
    assert row["reason"] == "warm_up: day 1 of 1: 4 of 4 sent in this hour"
    assert row["due_at"] <= datetime.now(UTC) + timedelta(hours=1)


async def test_transactional_messages_go_first_and_bulk_leaves_them_a_share(desk: Desk) -> None:
    await begin(desk, 10, reserve_percent=30)
    await desk.admit(20, message_class="bulk")
    urgent = await desk.admit(2)
    bulk = await desk.lane("bulk")
    assert count(await desk.claim(lane=bulk, gates=())) == 7
    (held,) = await desk.post.fetch(
        "SELECT DISTINCT reason FROM queue WHERE tenant_id = $1 AND state = 5", desk.tenant_id
    )
    assert held["reason"] == "warm_up: day 1 of 1: 7 of 10 sent, the rest is kept for transactional messages"
    claim = await desk.claim()
    assert claim.batch is not None
    assert set(claim.batch.messages) == set(urgent)


async def test_places_that_transactional_messages_wait_for_are_not_offered_to_bulk_again_and_again(desk: Desk) -> None:
    await begin(desk, 10, reserve_percent=0)
    await desk.admit(3)
    await desk.admit(9, message_class="bulk")
    bulk = await desk.lane("bulk")
    assert count(await desk.claim(lane=bulk, gates=())) == 7
    assert count(await desk.claim(lane=bulk, gates=())) == 0
    assert await release_freed(desk.post.runtime) == 0, "each would be held again, with an event, every two seconds"
    await desk.post.execute("UPDATE queue SET state = 5 WHERE tenant_id = $1 AND state = 0", desk.tenant_id)
    assert await release_freed(desk.post.runtime) == 2, "nobody waits for them any more"


async def test_bulk_alone_gets_the_whole_day(desk: Desk) -> None:
    await begin(desk, 10, reserve_percent=30)
    await desk.admit(20, message_class="bulk")
    assert count(await desk.claim(lane=await desk.lane("bulk"), gates=())) == 10


async def test_exempt_transactional_messages_are_neither_counted_nor_held(desk: Desk) -> None:
    await begin(desk, 2, is_transactional_exempt=True)
    await desk.admit(9)
    assert count(await desk.claim()) == 9
    assert (await plan(desk)).day_sent == 0


async def test_what_was_not_sent_does_not_count_and_leaves_its_place_to_what_is_held(desk: Desk) -> None:
    await begin(desk, 4, 50)
    ids = await desk.admit(6)
    claim = await desk.claim()
    await record(desk, claim, Accepted(), Deferred("server_deferred", "later", 3600.0), Unsent("paused"), Accepted())
    assert (await plan(desk)).day_sent == 2
    assert await release_freed(desk.post.runtime) == 1, "one of the two places is for what was handed back"
    await desk.post.execute(
        "UPDATE queue SET state = 0 WHERE tenant_id = $1 AND state = 5 AND due_at <= now()", desk.tenant_id
    )
    again = await desk.claim()
    assert again.batch is not None
    assert set(again.batch.messages) == {ids[2], ids[4]}
    assert (await plan(desk)).day_sent == 4
    assert await release_freed(desk.post.runtime) == 0


async def test_room_that_came_back_is_found_for_every_plan_however_many_there_are(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desks = [desk, *[await desk.post.desk() for _ in range(4)]]
    for each in desks:
        await begin(each, 2, 50)
        await each.admit(3)
        await record(each, await each.claim(), Unsent("paused"), Accepted())
        await each.post.execute(
            "UPDATE queue SET state = 5, reason = 'other: x' WHERE tenant_id = $1 AND state = 0", each.tenant_id
        )
    with monkeypatch.context() as patch:
        patch.setattr(warming, "_AT_ONCE", 2)
        assert await release_freed(desk.post.runtime) == 5, "one place of each"
    for each in desks:
        await each.post.execute(
            "UPDATE queue SET due_at = now() + interval '1 hour' WHERE tenant_id = $1 AND reason LIKE 'warm_up:%'",
            each.tenant_id,
        )
    statements: list[str] = []
    uow = desk.post.runtime.db.uow

    @asynccontextmanager
    async def counted(*which: Any) -> AsyncIterator[Any]:
        async with uow(*which) as unit:
            with unit.raw.query_logger(lambda record: statements.append(record.query)):
                yield unit

    monkeypatch.setattr(desk.post.runtime.db, "uow", counted)
    assert await release_freed(desk.post.runtime) == 5
    assert len([each for each in statements if "queue" in each]) == 2, "as many for five plans as for one"


async def test_a_batch_may_not_begin_when_its_day_is_over(desk: Desk) -> None:
    made = await begin(desk, 4)
    await desk.admit(1)
    claim = await desk.claim()
    assert claim.batch is not None
    assert claim.batch.begin_by_s is not None
    ends_in_s = (made.day_ends_at - claim.batch.claimed_at).total_seconds()
    assert claim.batch.begin_by_s == pytest.approx(claim.batch.claimed_s + ends_in_s)
    at_its_end = claim.batch.begin_by_s
    claim.batch.lease_until_s = at_its_end + 60
    assert claim.batch.why_late(at_its_end) == "the day in whose allowance it was counted is over"
    assert claim.batch.why_late(at_its_end - 0.01) is None


async def test_what_another_limit_keeps_back_is_not_counted(desk: Desk) -> None:
    await begin(desk, 10)
    await desk.admit(8)
    async with desk.engine() as uow:
        await buckets.set_rate(uow, ANN, "tenant", desk.tenant_id, 0.001, 3)
    assert count(await desk.claim()) == 3
    assert (await plan(desk)).day_sent == 3


async def test_a_day_on_which_too_much_came_back_is_done_again_and_says_so(desk: Desk) -> None:
    await begin(desk, 40, 80)
    ids = await desk.admit(40)
    await record(desk, await desk.claim(), Accepted())
    await desk.post.execute(
        "INSERT INTO rollup_deltas (tenant_id, lane_id, hour, state, n)"
        " SELECT $1, lane_id, date_trunc('hour', now()), s, n "
        "FROM messages, (VALUES ('sent', -4), ('bounced', 4)) AS c(s, n) WHERE tenant_id = $1 AND id = $2",
        desk.tenant_id, ids[0],
    )  # fmt: skip
    await day_is_over(desk)
    await desk.admit(50)
    assert count(await desk.claim()) == 40
    found = await plan(desk)
    assert (found.step, found.note) == (1, "stays on day 1: 10.0 % bounced, more than 5 %")


async def test_the_last_day_ends_the_plan_and_nothing_is_bounded_any_more(desk: Desk) -> None:
    await begin(desk, 5)
    await desk.admit(5)
    await record(desk, await desk.claim(), Accepted())
    await day_is_over(desk)
    await desk.admit(50)
    assert count(await desk.claim()) == 50
    found = await plan(desk)
    assert found.state == "finished"
    assert found.finished_at is not None


async def test_a_plan_bounds_nothing_before_its_first_day(desk: Desk) -> None:
    async with desk.engine() as uow:
        await warm_ups.begin(uow, ANN, desk.sender_id, "standard", starts_on=(await plan_day(desk)) + timedelta(days=3))
    await desk.admit(90)
    assert count(await desk.claim()) == 90


async def plan_day(desk: Desk) -> Any:
    return await desk.post.value(
        "SELECT (now() AT TIME ZONE timezone)::date FROM tenants WHERE id = $1", desk.tenant_id
    )


async def test_people_pause_skip_adjust_and_end_a_plan_and_each_is_audited(desk: Desk) -> None:
    await begin(desk, 2, 4, 6)
    await desk.admit(20)
    assert count(await desk.claim()) == 2

    async def more() -> int:
        async with desk.engine() as uow:
            await holds.release_sender(uow, allowances.GATE, desk.sender_id)
        await desk.post.execute(
            "UPDATE queue SET state = 0 WHERE tenant_id = $1 AND state = 5 AND due_at <= now()", desk.tenant_id
        )
        return count(await desk.claim())

    async with desk.engine() as uow:
        await warm_ups.pause(uow, ANN, desk.sender_id)
        skipped = await warm_ups.skip(uow, ANN, desk.sender_id, 2)
    assert (skipped.state, skipped.step, skipped.day_allowed) == ("paused", 2, 4)
    assert await more() == 2
    async with desk.engine() as uow:
        await warm_ups.resume(uow, ANN, desk.sender_id)
        await warm_ups.adjust(uow, ANN, desk.sender_id, steps=[Step(2), Step(7)])
    assert await more() == 3
    async with desk.engine() as uow:
        again = await warm_ups.restart(uow, ANN, desk.sender_id)
    assert (again.step, again.day_sent) == (1, 7), "what was sent today goes on to count"
    assert await more() == 0
    async with desk.engine() as uow:
        await warm_ups.end(uow, ANN, desk.sender_id)
        with pytest.raises(Refused) as caught:
            await warm_ups.pause(uow, ANN, desk.sender_id)
    assert caught.value.code == "finished"
    assert await more() == 13
    actions = await desk.post.fetch("SELECT action FROM audit_log WHERE tenant_id = $1 ORDER BY seq", desk.tenant_id)
    assert [row["action"].partition(".")[2] for row in actions] == [
        "begin", "pause", "skip", "resume", "adjust", "begin", "end",
    ]  # fmt: skip


async def test_when_so_many_messages_will_be_through(desk: Desk) -> None:
    await begin(desk, 10, 20, 30)
    now = datetime.now(UTC)
    async with desk.engine() as uow:
        today = await warm_ups.ends_at(uow, desk.sender_id, 10, now)
        later = await warm_ups.ends_at(uow, desk.sender_id, 31, now)
        nobody = await warm_ups.ends_at(uow, UUID(int=1), 31, now)
    ends = (await plan(desk)).day_ends_at
    assert (today, nobody) == (None, None)
    assert later == ends + timedelta(days=1)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"reserve_percent": 51}, "invalid_percent"),
        ({"most_bounces_percent": float("nan")}, "invalid_percent"),
        ({"most_complaints_percent": 101}, "invalid_percent"),
    ],
)
async def test_options_that_make_no_sense_are_refused(desk: Desk, change: dict[str, Any], code: str) -> None:
    with pytest.raises(Refused) as caught:
        await begin(desk, 5, **change)
    assert caught.value.code == code


async def test_upkeep_forgets_what_was_counted_days_ago(desk: Desk) -> None:
    await begin(desk, 5)
    await desk.admit(1)
    await desk.claim()
    await desk.post.execute("UPDATE warm_up_sends SET at = at - interval '4 days' WHERE tenant_id = $1", desk.tenant_id)
    await Upkeep(desk.post.runtime).retention()
    assert await desk.post.value("SELECT count(*) FROM warm_up_sends WHERE tenant_id = $1", desk.tenant_id) == 0


async def test_a_sender_that_is_not_warmed_up_costs_no_statement(desk: Desk) -> None:
    await desk.admit(1)
    claim = await Claimer(desk.post.engine, GATES, lease_s=60).claim(
        await desk.lane(), await desk.post.token(), limit=1
    )
    assert claim.batch is not None
    assert claim.batch.begin_by_s is None
    async with desk.post.engine.uow(Role.ENGINE, desk.tenant_id) as uow:
        assert await warm_ups.listed(uow) == []
