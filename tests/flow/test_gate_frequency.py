"""Frequency cap and fraud guard on a real database: nobody gets one too many, on any number of claims at once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import pytest

from outrider.base.ids import NIL
from outrider.contracts.actor import Actor
from outrider.contracts.channel import Channel
from outrider.contracts.gate import Block, Candidate, Lane, Pass
from outrider.contracts.provider import Outgoing
from outrider.domain.limits import contacted, prices
from outrider.domain.tenants import tenants
from outrider.engine.dispatch.claim import Claimer
from outrider.engine.dispatch.record import Row, write
from outrider.engine.maintenance import recounting
from outrider.plugins.gates.fraud_guard import GATE as GUARD
from outrider.plugins.gates.frequency_cap import GATE as CAP
from tests.kit.campaigns import Campaign, fanned_out, launched
from tests.kit.dispatch import BOUND_S, GATES, Desk, Post, until

TESTER = Actor("user", "tester")
_WAITING = (
    "SELECT count(*) FROM pg_locks WHERE NOT granted "
    "AND pid IN (SELECT pid FROM pg_stat_activity WHERE datname = current_database())"
)


@pytest.fixture
async def desk(post: Post) -> Desk:
    return await post.desk()


async def settle(desk: Desk, **settings: Any) -> None:
    async with desk.engine() as uow:
        await tenants.change(uow, TESTER, desk.tenant_id, settings=settings, fields=tenants.known_fields(GATES))


async def campaigns_to_the_same(desk: Desk, count: int, people: int) -> list[Campaign]:
    """Campaigns that all go to the contacts of the first."""
    made = [await launched(desk, people)]
    for _ in range(count - 1):
        other = await launched(desk, 0)
        await desk.post.execute(
            "INSERT INTO list_members (tenant_id, list_id, contact_id) "
            "SELECT tenant_id, $3, contact_id FROM list_members WHERE tenant_id = $1 AND list_id = $2",
            desk.tenant_id, made[0].list_id, other.list_id,
        )  # fmt: skip
        made.append(other)
    await fanned_out(desk.post)
    return made


async def claimed(desk: Desk, campaign: Campaign) -> int:
    claim = await desk.claim(lane=await campaign.lane())
    return len(claim.batch.messages) if claim.batch else 0


async def most_per_contact(desk: Desk) -> int:
    found: int = await desk.post.value(
        "SELECT coalesce(max(n), 0) FROM (SELECT count(*) AS n FROM queue q JOIN messages m USING (tenant_id) "
        "WHERE m.id = q.message_id AND q.tenant_id = $1 AND q.state = 1 GROUP BY m.contact_id) c",
        desk.tenant_id,
    )
    return found


async def test_without_a_cap_nothing_is_counted(desk: Desk) -> None:
    (campaign,) = await campaigns_to_the_same(desk, 1, 2)
    assert await claimed(desk, campaign) == 2
    assert await desk.post.value("SELECT count(*) FROM contact_sends WHERE tenant_id = $1", desk.tenant_id) == 0


async def test_the_message_beyond_the_cap_is_held_until_the_oldest_no_longer_counts(desk: Desk) -> None:
    await settle(desk, frequency_cap=2, frequency_window_h=24)
    made = await campaigns_to_the_same(desk, 3, 2)
    assert [await claimed(desk, each) for each in made] == [2, 2, 0]
    held = await desk.message((await made[2].messages())[0])
    assert held["waiting_for"] == "frequency_cap: 2 for marketing in 24 h are reached"
    oldest = await desk.post.value("SELECT min(at) FROM contact_sends WHERE tenant_id = $1", desk.tenant_id)
    assert held["next_at"] == oldest + timedelta(hours=24)
    await desk.post.execute(
        "UPDATE contact_sends SET at = at - interval '25 hours' WHERE tenant_id = $1 AND at = $2",
        desk.tenant_id, oldest,
    )  # fmt: skip
    await desk.post.execute("UPDATE queue SET state = 0 WHERE tenant_id = $1 AND state = 5", desk.tenant_id)
    assert await claimed(desk, made[2]) == 2


async def test_many_claims_at_once_give_nobody_one_too_many(desk: Desk) -> None:
    await settle(desk, frequency_cap=1)
    made = await campaigns_to_the_same(desk, 4, 40)
    lanes = [await each.lane() for each in made]
    given: list[int] = []

    async def work(lane: Lane) -> None:
        claimer = Claimer(desk.post.engine, GATES, lease_s=60)
        for _ in range(4):
            claim = await desk.claim(10, lane=lane, claimer=claimer)
            given.append(len(claim.batch.messages) if claim.batch else 0)

    await asyncio.gather(*(work(lane) for lane in lanes))
    assert sum(given) == 40, "everybody got one"
    assert await most_per_contact(desk) == 1


async def test_one_batch_holds_what_follows_to_the_same_contact_only_for_a_moment(desk: Desk) -> None:
    await settle(desk, frequency_cap=1)
    (campaign,) = await campaigns_to_the_same(desk, 1, 1)
    contact: UUID = await desk.post.value("SELECT contact_id FROM messages WHERE tenant_id = $1", desk.tenant_id)
    more = await desk.admit(2, message_class="bulk", purpose="marketing", contact_id=contact)
    claim = await desk.claim(lane=await desk.lane("bulk"))
    assert claim.batch is not None
    assert list(claim.batch.messages) == more[:1]
    held = await desk.message(more[1])
    assert held["next_at"] - datetime.now(UTC) < timedelta(minutes=1)
    assert await claimed(desk, campaign) == 0


async def test_what_was_not_sent_does_not_count(desk: Desk) -> None:
    await settle(desk, frequency_cap=1)
    first, second = await campaigns_to_the_same(desk, 2, 1)
    claim = await desk.claim(lane=await first.lane())
    assert claim.batch is not None
    async with desk.post.engine.transaction() as raw:
        rows = [
            Row("finish", each, claim.batch.token, "failed", None, "render_failed", "x")
            for each in claim.batch.messages
        ]
        await write(raw, desk.tenant_id, rows)
    assert await claimed(desk, second) == 1


async def recorded(desk: Desk, token: int, ids: Sequence[UUID], kind: str, state: str = "") -> None:
    async with desk.post.engine.transaction() as raw:
        await write(raw, desk.tenant_id, [Row(kind, each, token, state, None, "render_failed", "x") for each in ids])


async def asked_again(desk: Desk) -> int:
    """How many messages are asked about again after one round of the loop, and that nothing is told twice."""
    count, has_more = await recounting.release_freed(desk.post.runtime)
    assert not has_more
    assert await recounting.release_freed(desk.post.runtime) == (0, False)
    await desk.post.execute(
        "UPDATE queue SET state = 0, reason = NULL WHERE tenant_id = $1 AND state = 5 AND due_at <= now()",
        desk.tenant_id,
    )
    return count


@pytest.mark.parametrize(("kind", "state"), [("finish", "failed"), ("defer", ""), ("hand_back", "")])
async def test_room_that_comes_back_is_for_what_the_cap_holds(desk: Desk, kind: str, state: str) -> None:
    assert CAP.key == contacted.GATE
    await settle(desk, frequency_cap=1)
    first, second, third = await campaigns_to_the_same(desk, 3, 2)
    claim = await desk.claim(lane=await first.lane())
    assert claim.batch is not None
    assert [await claimed(desk, each) for each in (second, third)] == [0, 0]
    freed, _ = claim.batch.messages
    await recorded(desk, claim.batch.token, [freed], kind, state)
    assert await asked_again(desk) == 2, "one of each campaign: the other contact got its message"
    assert [await claimed(desk, each) for each in (second, third)] == [1, 0]
    assert await most_per_contact(desk) == 1
    assert await asked_again(desk) == 0


async def test_a_place_that_its_own_message_takes_again_wakes_nobody(desk: Desk) -> None:
    await settle(desk, frequency_cap=1)
    first, second = await campaigns_to_the_same(desk, 2, 1)
    claim = await desk.claim(lane=await first.lane())
    assert claim.batch is not None
    assert await claimed(desk, second) == 0
    await recorded(desk, claim.batch.token, list(claim.batch.messages), "hand_back")
    assert await claimed(desk, first) == 1
    assert await asked_again(desk) == 0


async def test_what_waits_for_another_gate_or_goes_by_another_purpose_is_not_asked_about(desk: Desk) -> None:
    await settle(desk, frequency_cap=1)
    first, second = await campaigns_to_the_same(desk, 2, 1)
    claim = await desk.claim(lane=await first.lane())
    assert claim.batch is not None
    assert await claimed(desk, second) == 0
    address: str = await desk.post.value("SELECT min(address) FROM messages WHERE tenant_id = $1", desk.tenant_id)
    same = await desk.admit(2, address=address, message_class="bulk", purpose="marketing")
    other = await desk.admit(1, address=address, message_class="bulk", purpose="news")
    for ids, gate in ((same[:1], "quiet_hours"), (same[1:], contacted.GATE), (other, contacted.GATE)):
        await desk.post.execute(
            "UPDATE queue SET state = 5, due_at = now() + interval '1 hour', reason = $3 || ': not now' "
            "WHERE tenant_id = $1 AND message_id = ANY ($2::uuid[])",
            desk.tenant_id, ids, gate,
        )  # fmt: skip
    await recorded(desk, claim.batch.token, list(claim.batch.messages), "finish", "failed")
    assert await asked_again(desk) == 2, "the second campaign's, and the one to the address without a contact"
    rows = await desk.post.fetch("SELECT message_id FROM queue WHERE tenant_id = $1 AND state = 0", desk.tenant_id)
    assert {row["message_id"] for row in rows} == {*await second.messages(), same[1]}


async def test_what_a_claim_holds_while_the_count_is_taken_back_is_asked_about_as_well(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    await settle(desk, frequency_cap=1)
    first, second = await campaigns_to_the_same(desk, 2, 1)
    claim = await desk.claim(lane=await first.lane())
    assert claim.batch is not None
    has_judged, may_commit = asyncio.Event(), asyncio.Event()
    hold = Claimer._stop

    async def stopping(self: Claimer, *arguments: Any) -> None:
        await hold(self, *arguments)
        if arguments[2]:
            has_judged.set()
            await may_commit.wait()

    monkeypatch.setattr(Claimer, "_stop", stopping)
    late = asyncio.ensure_future(claimed(desk, second))
    async with asyncio.timeout(BOUND_S):
        await has_judged.wait()
        await recorded(desk, claim.batch.token, list(claim.batch.messages), "finish", "failed")
        found = asyncio.ensure_future(recounting.release_freed(desk.post.runtime))

        async def waits() -> bool:
            return found.done() or bool(await desk.post.value(_WAITING))

        await until(waits)
        may_commit.set()
        assert await late == 0
        assert await found == (1, False)


async def test_an_attempt_that_may_have_left_counts_for_others_and_does_not_hold_its_own_repetition(desk: Desk) -> None:
    await settle(desk, frequency_cap=1)
    first, second = await campaigns_to_the_same(desk, 2, 1)
    claim = await desk.claim(lane=await first.lane())
    assert claim.batch is not None
    async with desk.post.engine.transaction() as raw:
        await write(raw, desk.tenant_id, [Row("try_again", each, claim.batch.token) for each in claim.batch.messages])
    assert await claimed(desk, first) == 1
    assert await claimed(desk, second) == 0


async def test_other_purposes_go_and_contacts_are_found_by_their_address(desk: Desk) -> None:
    await settle(desk, frequency_cap=1)
    (campaign,) = await campaigns_to_the_same(desk, 1, 1)
    assert await claimed(desk, campaign) == 1
    address: str = await desk.post.value("SELECT address FROM messages WHERE tenant_id = $1", desk.tenant_id)
    (free,) = await desk.admit(1, address=address)
    claim = await desk.claim()
    assert claim.batch is not None
    assert list(claim.batch.messages) == [free]
    await desk.admit(1, address=address, purpose="marketing")
    assert (await desk.claim()).batch is None


@pytest.mark.parametrize(
    ("countries", "goes"), [("AU,NZ", True), ("US", False), (None, True)], ids=["allowed", "not allowed", "no list"]
)
def test_texts_go_only_where_they_may(countries: str | None, *, goes: bool) -> None:
    gate = GUARD.configured({"sms_countries": countries, "highest_price_micros": None})
    lane = Lane(NIL, 1, "sms", NIL, None, "bulk")
    now = datetime.now(UTC)
    message = Candidate(NIL, None, "+61491570156", "marketing", None, 0)
    verdict = gate.judge({}, message, now) if gate.concerns(lane) else Pass()
    assert isinstance(verdict, Pass if goes else Block)
    assert not gate.concerns(Lane(NIL, 1, "email", NIL, None, "bulk"))


async def test_what_costs_more_than_one_message_may_is_blocked(desk: Desk) -> None:
    await settle(desk, highest_price_micros=50_000)
    async with desk.engine() as uow:
        await prices.add(uow, TESTER, "email", "", 50_001)
    ids: Sequence[UUID] = await desk.admit(1)
    assert (await desk.claim()).batch is None
    shown = await desk.message(ids[0])
    assert (shown["state"], shown["code"]) == ("blocked", "fraud_guard")
    assert "50,001" in shown["detail"]


async def test_what_has_more_parts_than_estimated_is_blocked_when_it_costs_more_than_one_message_may(
    desk: Desk,
) -> None:
    await settle(desk, highest_price_micros=50_000)
    async with desk.engine() as uow:
        await prices.add(uow, TESTER, "email", "", 30_000)
    (message_id,) = await desk.admit(1)
    claimer = Claimer(desk.post.engine, GATES, lease_s=60.0)
    claim = await desk.claim(claimer=claimer)
    assert claim.batch is not None
    two_parts = cast("Channel", SimpleNamespace(measure=lambda _body: SimpleNamespace(segments=2)))
    made = [Outgoing(message_id, "a@example.org", "b@example.org", b"long", str(message_id))]
    assert await claimer.spending.correct(desk.post.engine, claim.batch, two_parts, made) == {message_id}
    async with desk.post.engine.transaction() as raw:
        await write(raw, desk.tenant_id, [Row("hand_back", message_id, claim.batch.token)])
    assert (await desk.claim(claimer=claimer)).batch is None
    shown = await desk.message(message_id)
    assert (shown["state"], shown["code"]) == ("blocked", "fraud_guard")
