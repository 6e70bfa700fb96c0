"""The claim on a real database: what is picked, in which order, what the gates do, and what is written about it."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from outrider.base.clock import boottime_s
from outrider.base.ids import NIL, time_of
from outrider.contracts.actor import Actor
from outrider.contracts.gate import Allowance, Block, Candidate, Fact, Gate, Hold, Lane, Verdict
from outrider.domain.limits import buckets
from outrider.domain.messages.rows import SQL
from outrider.engine.dispatch import marks
from outrider.engine.dispatch.claim import Claimer
from tests.kit.campaigns import fanned_out, launched
from tests.kit.dispatch import GATES, Desk, Post
from tests.kit.processes import until


@pytest.fixture
async def desk(post: Post) -> Desk:
    return await post.desk()


async def claimed(desk: Desk, limit: int = 1000, **more: object) -> list[UUID]:
    """The ids one claim leases."""
    claim = await desk.claim(limit, **more)  # type: ignore[arg-type]  # handed through
    return list(claim.batch.messages) if claim.batch else []


async def test_messages_come_by_priority_then_by_when_they_were_due(desk: Desk) -> None:
    late = await desk.admit(2, priority=5)
    urgent = await desk.admit(1, priority=0)
    lazy = await desk.admit(1, priority=9)
    assert await claimed(desk) == [*urgent, *late, *lazy]


async def test_a_claim_takes_no_more_than_its_limit_and_the_next_goes_on_behind_it(desk: Desk) -> None:
    ids = await desk.admit(5)
    claimer = Claimer(desk.post.engine, GATES, lease_s=60)
    assert await claimed(desk, 2, claimer=claimer) == ids[:2]
    assert await claimed(desk, 2, claimer=claimer) == ids[2:4]
    assert await claimed(desk, 2, claimer=claimer) == ids[4:]
    assert await claimed(desk, 2, claimer=claimer) == []


async def test_a_message_released_before_the_mark_is_found_when_nothing_lies_behind_it(desk: Desk) -> None:
    await desk.admit(2)
    claimer = Claimer(desk.post.engine, GATES, lease_s=60)
    await claimed(desk, 2, claimer=claimer)  # as many as it may: behind the last there may be more
    first = await desk.admit(priority=0)
    assert await claimed(desk, claimer=claimer) == first, (
        "an empty look from the mark is followed by one from the start"
    )


@pytest.mark.parametrize(("looked_s", "is_found"), [("0.0::float8", True), ("100.0::float8", False)])
async def test_a_lane_is_looked_at_from_its_start_the_more_rarely_the_longer_that_takes(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, looked_s: str, *, is_found: bool
) -> None:
    measured = "date_part('epoch', clock_timestamp() - statement_timestamp())"
    assert measured in SQL.claim_pick.sql
    dear = dataclasses.replace(SQL.claim_pick, sql=SQL.claim_pick.sql.replace(measured, looked_s))
    monkeypatch.setattr(SQL, "claim_pick", dear)
    monkeypatch.setattr(marks, "LIFE_S", 0.0)
    monkeypatch.setattr(marks, "LONGEST_LIFE_S", 600.0)
    ids = await desk.admit(4)
    claimer = Claimer(desk.post.engine, GATES, lease_s=60)
    assert await claimed(desk, 2, claimer=claimer) == ids[:2]
    (urgent,) = await desk.admit(priority=0)
    assert await claimed(desk, 1, claimer=claimer) == ([urgent] if is_found else [ids[2]])


async def test_a_pick_says_how_long_the_server_took_to_come_to_each_message(desk: Desk) -> None:
    await desk.admit(50)
    lane = await desk.lane()
    async with desk.post.engine.transaction() as raw:
        began_at = await raw.fetchval("SELECT clock_timestamp()")
        picked = await SQL.claim_pick.many(raw, desk.tenant_id, lane.id, 50, *marks.FIRST)
        took_s = (await raw.fetchval("SELECT clock_timestamp()") - began_at).total_seconds()
    seen = [row["looked_s"] for row in picked]
    assert 0.0 < seen[0] < seen[-1] <= took_s
    assert seen == sorted(seen)


async def test_a_lane_is_drained_only_when_nothing_that_is_ready_is_left_in_it(desk: Desk) -> None:
    ids = await desk.admit(3)
    claimer = Claimer(desk.post.engine, GATES, lease_s=60)
    said = [await desk.claim(2, claimer=claimer) for _ in range(3)]
    assert [each.is_drained for each in said] == [False, False, True], "before a mark there may be what came back"
    assert said[2].batch is None
    await desk.post.execute("UPDATE queue SET state = 0, token = NULL, crashes = 1 WHERE message_id = $1", ids[1])
    await desk.admit(1)
    assert [(await desk.claim()).is_drained for _ in range(2)] == [False, True], "one that goes alone leaves the others"


async def test_a_claim_that_waited_for_its_lane_is_as_fresh_as_what_its_gates_said(desk: Desk) -> None:
    lane = await desk.lane()
    await desk.admit(1)
    async with desk.post.engine.transaction() as raw:
        await raw.fetchval("SELECT id FROM lanes WHERE tenant_id = $1 AND id = $2 FOR UPDATE", desk.tenant_id, lane.id)
        claiming = asyncio.create_task(desk.claim(lane=lane))

        async def is_waiting() -> bool:
            return bool(await desk.post.value("SELECT count(*) FROM pg_locks WHERE NOT granted"))

        await until(is_waiting, what="the claim waits for its lane")
        released_s = boottime_s()
    claim = await claiming
    assert claim.batch is not None
    assert claim.batch.claimed_s < released_s < claim.batch.asked_s


async def test_a_lane_of_which_a_rate_keeps_something_back_is_not_drained(desk: Desk) -> None:
    await desk.admit(3)
    async with desk.engine() as uow:
        await buckets.set_rate(uow, Actor("user", "ann"), "tenant", desk.tenant_id, 0.001, 2)
    some = await desk.claim()
    assert some.batch is not None
    assert (len(some.batch.messages), some.is_drained) == (2, False)
    none = await desk.claim()
    assert (none.batch, none.is_drained) == (None, False)


async def test_what_is_due_later_is_not_ready(desk: Desk) -> None:
    ids = await desk.admit(due_at=datetime.now(UTC) + timedelta(hours=1))
    assert await desk.states(ids) == ["scheduled"]
    claim = await desk.claim()
    assert (claim.batch, claim.why) == (None, "empty")


async def test_a_lease_has_token_end_attempt_and_the_instant_of_the_first_attempt(desk: Desk) -> None:
    (message_id,) = await desk.admit(variables='{"n": 1}', expires_at=datetime.now(UTC) + timedelta(seconds=600))
    token = await desk.post.token()
    before_s = boottime_s()
    claim = await desk.claim(token=token, lease_s=60)
    assert claim.batch is not None
    message = claim.batch.messages[message_id]
    row = await desk.queued(message_id)
    assert row is not None
    assert (row["state"], row["token"], row["attempt"], row["crashes"]) == (1, token, 1, 0)
    assert row["attempted_at"] == message.dated_at
    assert 55 < (row["lease_until"] - message.dated_at).total_seconds() < 65
    assert claim.batch.lease_until_s <= boottime_s() + 60
    assert claim.batch.lease_until_s >= before_s + 60
    assert (message.attempt, message.variables, message.address) == (1, '{"n": 1}', "p0@example.org")
    assert message.until_s is not None
    assert 590 < message.until_s - before_s < 601
    assert await desk.states([message_id]) == ["sending"]


async def test_the_date_of_a_message_stays_that_of_its_first_attempt(desk: Desk) -> None:
    (message_id,) = await desk.admit()
    first = await desk.claim()
    assert first.batch is not None
    await desk.post.execute(
        "UPDATE queue SET state = 0, token = NULL, lease_until = NULL WHERE message_id = $1", message_id
    )
    second = await desk.claim()
    assert second.batch is not None
    assert second.batch.messages[message_id].dated_at == first.batch.messages[message_id].dated_at
    assert second.batch.messages[message_id].attempt == 2
    row = await desk.queued(message_id)
    assert row is not None
    assert row["attempted_at"] == first.batch.messages[message_id].dated_at


async def test_what_one_worker_holds_another_passes_over(desk: Desk) -> None:
    ids = await desk.admit(4)
    lane = await desk.lane()
    async with desk.post.engine.transaction() as other:
        await other.fetch(
            "SELECT 1 FROM queue WHERE tenant_id = $1 AND message_id = ANY($2) FOR UPDATE", desk.tenant_id, ids[:2]
        )
        assert await claimed(desk, lane=lane) == ids[2:]
    assert await claimed(desk, lane=lane) == ids[:2]


async def test_a_message_in_whose_hands_a_worker_died_goes_alone(desk: Desk) -> None:
    ids = await desk.admit(5)
    await desk.post.execute("UPDATE queue SET crashes = 1 WHERE message_id = ANY($1)", [ids[1], ids[2]])
    batches = [await claimed(desk) for _ in range(5)]
    assert batches == [[ids[0]], [ids[1]], [ids[2]], ids[3:], []]


async def test_a_claim_of_a_lane_that_is_gone_rests(desk: Desk) -> None:
    claim = await desk.claim(lane=Lane(desk.tenant_id, 2**31 - 1, "email", desk.sender_id, None, "bulk"))
    assert (claim.batch, claim.why, claim.rest_s) == (None, "the lane is gone", 1.0)


async def test_a_lane_of_another_tenant_is_nobodys(post: Post, desk: Desk) -> None:
    await desk.admit()
    mine = await desk.lane()
    other = await post.desk()
    theirs = Lane(other.tenant_id, mine.id, "email", other.sender_id, None, "transactional")
    assert (await other.claim(lane=theirs)).why == "the lane is gone"


# gates: why was it not sent?


async def test_a_suppressed_address_is_blocked_with_gate_reason_and_event(desk: Desk) -> None:
    ids = await desk.admit(3)
    await desk.suppress("p1@example.org")
    claim = await desk.claim()
    assert claim.batch is not None
    assert list(claim.batch.messages) == [ids[0], ids[2]]
    assert claim.settled_count == 1
    message = await desk.message(ids[1])
    assert (message["state"], message["code"], message["detail"]) == (
        "blocked",
        "do_not_contact",
        "do not contact: manual",
    )
    assert await desk.events(ids[1]) == ["blocked"]
    assert await desk.queued(ids[1]) is None
    assert await desk.post.value(
        "SELECT sum(n) FROM rollup_deltas WHERE tenant_id = $1 AND state = 'blocked' AND code = 'do_not_contact'",
        desk.tenant_id,
    ) == 1  # fmt: skip


@pytest.mark.parametrize(("scope", "by"), [("all", "tenant"), ("all", "installation"), ("bulk", "tenant")])
async def test_a_suppression_concerns_its_scope_whoever_made_it(desk: Desk, scope: str, by: str) -> None:
    address = f"{uuid4()}@example.org"
    await desk.suppress(address, scope=scope, tenant_id=NIL if by == "installation" else None)
    (letter,) = await desk.admit(address=address)
    (bulk,) = await desk.admit(address=address, message_class="bulk")
    await desk.claim()
    await desk.claim(lane=await desk.lane("bulk"))
    assert await desk.states([letter, bulk]) == ["sending" if scope == "bulk" else "blocked", "blocked"]


async def test_another_tenants_list_does_not_concern_us(post: Post, desk: Desk) -> None:
    other = await post.desk()
    await other.suppress("p0@example.org")
    assert len(await claimed(desk)) == 0
    ids = await desk.admit()
    assert await claimed(desk) == ids


async def test_bulk_needs_consent_and_a_withdrawal_stops_transactional_messages_too(desk: Desk) -> None:
    campaign = await launched(desk, 3)
    await fanned_out(desk.post)
    ids = await campaign.messages()
    contacts = [(await desk.message(each))["contact_id"] for each in ids]
    await desk.post.execute("DELETE FROM consents WHERE contact_id = $1", contacts[0])
    await desk.post.execute("UPDATE consents SET status = 'withdrawn' WHERE contact_id = $1", contacts[1])
    letters = [
        *await desk.admit(contact_id=contacts[0]),
        *await desk.admit(contact_id=contacts[1], purpose="marketing"),
    ]
    assert await claimed(desk, lane=await campaign.lane()) == [ids[2]]
    assert await claimed(desk) == [letters[0]]
    assert [(await desk.message(each))["detail"] for each in (ids[0], ids[1], letters[1])] == [
        "consent not given for marketing",
        "consent withdrawn for marketing",
        "consent withdrawn for marketing",
    ]


async def test_a_tenant_may_send_bulk_without_recorded_consent_but_never_against_a_withdrawal(desk: Desk) -> None:
    await desk.post.execute(
        """UPDATE tenants SET settings = '{"consent_required": false}' WHERE id = $1""", desk.tenant_id
    )
    campaign = await launched(desk, 2)
    await fanned_out(desk.post)
    ids = await campaign.messages()
    contacts = [(await desk.message(each))["contact_id"] for each in ids]
    await desk.post.execute("DELETE FROM consents WHERE contact_id = $1", contacts[0])
    await desk.post.execute("UPDATE consents SET status = 'withdrawn' WHERE contact_id = $1", contacts[1])
    assert await claimed(desk, lane=await campaign.lane()) == [ids[0]]


async def test_a_message_past_its_validity_ends_as_expired(desk: Desk) -> None:
    stale, fresh = await desk.admit(2, expires_at=datetime.now(UTC) + timedelta(hours=1))
    await desk.post.execute("UPDATE messages SET expires_at = now() - interval '1 second' WHERE id = $1", stale)
    assert await claimed(desk) == [fresh]
    message = await desk.message(stale)
    assert (message["state"], message["code"]) == ("expired", "expiry")
    assert message["detail"].startswith("valid until ")
    assert await desk.events(stale) == ["expired"]


class Moody(Gate):
    """Answers by the local part of the address; remembers what it was shown."""

    until = datetime(2030, 1, 1, tzinfo=UTC)

    def judge(self, fact: Fact, message: Candidate, now: datetime) -> Verdict:
        SEEN.append((message, now))
        match message.address.partition("@")[0]:
            case "hold":
                return Hold(self.until, "not now")
            case "block":
                return Block("never")
        return super().judge(fact, message, now)


SEEN: list[tuple[Candidate, datetime]] = []


async def test_a_held_message_leaves_the_ready_part_with_reason_until_and_event(desk: Desk) -> None:
    held, blocked, goes = [(await desk.admit(address=f"{name}@example.org"))[0] for name in ("hold", "block", "goes")]
    SEEN.clear()
    assert await claimed(desk, gates=[*GATES, Moody("moody", 90, "Moods.")]) == [goes]
    row = await desk.queued(held)
    assert row is not None
    assert (row["state"], row["due_at"], row["reason"], row["attempt"]) == (5, Moody.until, "moody: not now", 0)
    assert await desk.events(held) == ["held"]
    message = await desk.message(held)
    assert (message["state"], message["waiting_for"], message["next_at"]) == ("held", "moody: not now", Moody.until)
    assert (await desk.message(blocked))["code"] == "moody"
    assert [candidate.id for candidate, _now in SEEN] == [held, blocked, goes]
    assert all(candidate.accepted_at == time_of(candidate.id) for candidate, _now in SEEN)


async def test_the_first_gate_that_does_not_pass_decides(desk: Desk) -> None:
    (message_id,) = await desk.admit(address="hold@example.org")
    await desk.suppress("hold@example.org")
    await desk.claim(gates=[*GATES, Moody("moody", 90, "Moods.")])
    assert (await desk.message(message_id))["code"] == "do_not_contact"


async def test_a_whole_batch_that_is_stopped_leaves_no_lease_and_the_lane_goes_on_at_once(desk: Desk) -> None:
    await desk.admit(3, address="block@example.org")
    claim = await desk.claim(gates=[Moody("moody", 90, "Moods.")])
    assert (claim.batch, claim.settled_count, claim.rest_s) == (None, 3, 0.0)


class Half(Gate):
    """Lets half of what is asked go."""

    def allow(self, lane: Lane, facts: object, asked: int) -> Allowance:
        return Allowance(asked // 2, "half is enough")


async def test_a_gate_of_the_lane_limits_what_is_picked_at_all(desk: Desk) -> None:
    ids = await desk.admit(10)
    half = Half("half", 5, "Half.", lane_facts="SELECT $1::uuid, $2::text, $3::uuid, $4::uuid")
    assert await claimed(desk, 6, gates=[half, *GATES]) == ids[:3]
    claim = await desk.claim(1, gates=[half])
    assert (claim.batch, claim.why) == (None, "half is enough")


@pytest.mark.parametrize("scope", ["installation", "tenant", "channel", "sender", "campaign"])
async def test_nothing_of_what_is_paused_is_claimed_and_it_stays_queued(desk: Desk, scope: str) -> None:
    campaign = await launched(desk, 2)
    await fanned_out(desk.post)
    ids, lane = await campaign.messages(), await campaign.lane()
    place = {
        "installation": (str(NIL), NIL), "tenant": (str(desk.tenant_id), None), "channel": ("email", None),
        "sender": (str(desk.sender_id), None), "campaign": (str(campaign.id), None),
    }[scope]  # fmt: skip
    await desk.pause(scope, *place)
    try:
        claim = await desk.claim(lane=lane)
        assert (claim.batch, claim.why) == (None, f"paused: {scope}: test")
        assert await desk.states(ids) == ["queued", "queued"]
    finally:
        await desk.post.execute("DELETE FROM switches")
    assert await claimed(desk, lane=lane) == ids


async def test_maintenance_stops_every_lane(desk: Desk) -> None:
    ids = await desk.admit()
    await desk.post.execute("UPDATE installation SET maintenance_since = now(), maintenance_reason = 'new disk'")
    try:
        assert (await desk.claim()).why == "maintenance: new disk"
    finally:
        await desk.post.execute("UPDATE installation SET maintenance_since = NULL")
    assert await claimed(desk) == ids


async def test_a_queue_row_without_a_ledger_row_is_held_and_its_lane_goes_on(desk: Desk) -> None:
    lost, *rest = await desk.admit(4)
    await desk.post.execute("DELETE FROM messages WHERE id = $1", lost)
    assert await claimed(desk, 3) == rest[:2]
    row = await desk.queued(lost)
    assert row is not None
    assert (row["state"], row["reason"]) == (5, "it has no row in the ledger")
    assert await claimed(desk) == rest[2:]
    alone = (await desk.admit())[0]
    await desk.post.execute("DELETE FROM messages WHERE id = $1", alone)
    assert await claimed(desk) == []


async def test_gates_asked_again_withdraw_what_may_not_go_any_more(desk: Desk) -> None:
    ids = await desk.admit(3)
    claimer = Claimer(desk.post.engine, GATES, lease_s=60)
    claim = await desk.claim(claimer=claimer)
    assert claim.batch is not None
    await desk.suppress("p1@example.org")
    await desk.suppress("p2@example.org")
    claim.batch.unsettled.discard(ids[2])
    claim.batch.begun.add(ids[1])
    asked = [gate for gate in GATES if gate.is_asked_again]
    async with desk.post.engine.transaction() as raw:
        found = await claimer.withdrawn(raw, claim.batch, asked)
    assert found == {ids[1]: "do_not_contact"}, "one that was given leave may still be waiting for a connection"


async def test_a_gate_asked_again_that_lets_a_message_go_does_not_withdraw_it(desk: Desk) -> None:
    held = (await desk.admit(address="hold@example.org"))[0]
    goes = (await desk.admit(address="goes@example.org"))[0]
    claimer = Claimer(desk.post.engine, GATES, lease_s=60)
    claim = await desk.claim(claimer=claimer)
    assert claim.batch is not None
    facts = (
        "SELECT t.id AS message_id FROM unnest($2::uuid[]) t(id) "
        "WHERE num_nulls($1::uuid, $3::uuid[], $4::text[], $5::text, $6::text, $7::text[]) >= 0"
    )
    moody = Moody("moody", 90, "Moods.", facts=facts, is_asked_again=True)
    SEEN.clear()
    async with desk.post.engine.transaction() as raw:
        assert await claimer.withdrawn(raw, claim.batch, [moody]) == {held: "moody"}
    assert {candidate.id for candidate, _now in SEEN} == {held, goes}
    now = SEEN[0][1]
    assert timedelta() <= now - claim.batch.claimed_at < timedelta(minutes=1)
