"""Admission, look-ups, counts and uncertain messages on a real database, as the engine's role."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Literal
from uuid import UUID, uuid4

import asyncpg
import pytest

from outrider.base.errors import Refused
from outrider.base.ids import time_of
from outrider.contracts.outcome import Uncertain
from outrider.data.db import Role
from outrider.domain.audit.listing import listed as audited
from outrider.domain.messages import counts, search, uncertain
from outrider.domain.messages.admit import LaneKey, NewMessage, Replay, admit, keep, replay_of
from outrider.domain.messages.lanes import directory, lane_for, with_work
from outrider.domain.messages.rows import SQL
from outrider.domain.messages.stats import queue_stats
from outrider.engine.dispatch import record
from tests.kit.api import TESTER
from tests.kit.dispatch import Desk, Post

KEY, BODY = "order-17", b'{"to": "a@example.org"}'
ANSWER = Replay(202, '{"id": "x"}')


@pytest.fixture
async def desk(post: Post) -> Desk:
    return await post.desk()


# admission


async def test_ids_come_in_the_order_of_the_messages_and_tell_when_they_were_accepted(desk: Desk) -> None:
    before = datetime.now(UTC) - timedelta(seconds=5)
    ids = await desk.admit(500)
    assert ids == sorted(ids)
    rows = await desk.post.fetch("SELECT id, address FROM messages WHERE tenant_id = $1 ORDER BY id", desk.tenant_id)
    assert [(row["id"], row["address"]) for row in rows] == [(each, f"p{n}@example.org") for n, each in enumerate(ids)]
    assert all(before < time_of(each) < datetime.now(UTC) + timedelta(seconds=5) for each in ids)
    assert (
        await desk.post.value("SELECT tableoid::regclass::text FROM messages WHERE id = $1", ids[0])
        != "messages_default"
    )


async def test_an_accepted_message_is_in_ledger_queue_and_count_at_once(desk: Desk) -> None:
    expires_at = datetime.now(UTC) + timedelta(days=1)
    (message_id,) = await desk.admit(
        variables='{"a": "\\u00e4"}', expires_at=expires_at, priority=2, purpose="receipts"
    )
    message = await desk.message(message_id)
    assert (message["state"], message["priority"], message["purpose"], message["attempts"]) == (
        "queued",
        2,
        "receipts",
        0,
    )
    assert (message["variables"], message["expires_at"]) == ('{"a": "\u00e4"}', expires_at)
    lane = await desk.lane()
    assert message["lane_id"] == lane.id
    row = await desk.queued(message_id)
    assert row is not None
    assert (row["state"], row["lane_id"], row["priority"]) == (0, lane.id, 2)
    counted = await desk.post.fetch("SELECT state, n FROM rollup_deltas WHERE lane_id = $1", lane.id)
    assert [tuple(each) for each in counted] == [("accepted", 1)]


async def test_a_message_for_later_is_scheduled_and_one_for_the_past_is_ready(desk: Desk) -> None:
    now = datetime.now(UTC)
    later, past = [(await desk.admit(due_at=now + timedelta(hours=h)))[0] for h in (1, -1)]
    assert await desk.states([later, past]) == ["scheduled", "queued"]


async def test_nothing_is_accepted_unless_the_callers_transaction_commits(desk: Desk) -> None:
    with pytest.raises(ZeroDivisionError):
        await _admit_and_fail(desk)
    for table in ("messages", "queue", "rollup_deltas"):
        assert await desk.post.value(f"SELECT count(*) FROM {table} WHERE tenant_id = $1", desk.tenant_id) == 0


async def _admit_and_fail(desk: Desk) -> None:
    key = LaneKey("email", desk.sender_id, "transactional", "x", 5)
    async with desk.engine() as uow:
        assert len(await admit(uow, desk.tenant_id, key, [NewMessage("a@example.org", desk.content_id)])) == 1
        raise ZeroDivisionError


async def test_a_lane_is_one_per_channel_sender_campaign_and_class_however_many_ask_at_once(desk: Desk) -> None:
    lanes = await asyncio.gather(*(desk.lane() for _ in range(8)))
    assert len({lane.id for lane in lanes}) == 1
    others = [
        await desk.lane("bulk"), await desk.lane("bulk", campaign_id=uuid4()),
        await desk.lane(sender_id=await desk.sender("another")),
    ]  # fmt: skip
    assert len({lane.id for lane in [*lanes, *others]}) == 4


async def test_a_closed_lane_is_opened_again_by_its_next_message(desk: Desk) -> None:
    lane = await desk.lane()
    await desk.post.execute("UPDATE lanes SET is_open = false WHERE id = $1", lane.id)
    await desk.admit()
    async with desk.post.engine.transaction() as raw:
        assert lane in await directory(raw)


async def test_the_directory_lists_open_lanes_with_something_ready_only(desk: Desk) -> None:
    ready, empty, leased, held, closed = [await desk.lane(sender_id=await desk.sender(name)) for name in "abcde"]
    for lane in (ready, leased, held, closed):
        await desk.admit(sender_id=lane.sender_id)
    await desk.post.execute("UPDATE lanes SET is_open = false WHERE id = $1", closed.id)
    await desk.claim(lane=leased)
    await desk.post.execute("UPDATE queue SET state = 5 WHERE lane_id = $1", held.id)
    async with desk.post.engine.transaction() as raw:
        walked = {lane.id for lane in await directory(raw) if lane.tenant_id == desk.tenant_id}
        asked = {lane.id for lane in await with_work(raw, []) if lane.tenant_id == desk.tenant_id}
        known = [empty.id, closed.id]
        taken = {lane.id for lane in await with_work(raw, known) if lane.tenant_id == desk.tenant_id}
    assert walked == asked == {ready.id}
    assert taken == {ready.id, empty.id}, "what is said to have something is not looked at, but must be open"


# idempotency keys


async def test_the_first_request_under_a_key_is_answered_and_a_repeat_gets_the_same(desk: Desk) -> None:
    async with desk.engine() as uow:
        assert await replay_of(uow.raw, desk.tenant_id, KEY, BODY) is None
        await keep(uow.raw, desk.tenant_id, KEY, BODY, ANSWER)
    async with desk.engine() as uow:
        assert await replay_of(uow.raw, desk.tenant_id, KEY, BODY) == ANSWER


async def test_a_key_used_with_another_body_is_refused(desk: Desk) -> None:
    async with desk.engine() as uow:
        await keep(uow.raw, desk.tenant_id, KEY, BODY, ANSWER)
        with pytest.raises(Refused) as refused:
            await replay_of(uow.raw, desk.tenant_id, KEY, BODY + b" ")
    assert (refused.value.code, refused.value.http_status) == ("idempotency_mismatch", 422)


async def test_while_a_request_runs_under_a_key_another_is_told_so_and_never_waits(desk: Desk) -> None:
    async with desk.engine() as first:
        assert await replay_of(first.raw, desk.tenant_id, KEY, BODY) is None
        async with desk.engine() as second:
            with pytest.raises(Refused) as refused:
                await replay_of(second.raw, desk.tenant_id, KEY, BODY)
        assert (refused.value.code, refused.value.http_status) == ("idempotency_in_progress", 409)
    async with desk.engine() as third:
        assert await replay_of(third.raw, desk.tenant_id, KEY, BODY) is None, "the first kept nothing"


async def test_keys_of_two_tenants_have_nothing_to_do_with_each_other(post: Post, desk: Desk) -> None:
    other = await post.desk()
    async with desk.engine() as mine, other.engine() as theirs:
        assert await replay_of(mine.raw, desk.tenant_id, KEY, BODY) is None
        assert await replay_of(theirs.raw, other.tenant_id, KEY, b"other") is None
        await keep(mine.raw, desk.tenant_id, KEY, BODY, ANSWER)
        await keep(theirs.raw, other.tenant_id, KEY, b"other", ANSWER)


# counts, depth and search


async def test_counts_are_exact_before_while_and_after_they_are_folded(desk: Desk) -> None:
    await desk.admit(5)
    lane = await desk.lane()
    for _ in range(3):
        async with desk.post.engine.transaction() as raw:
            rows = await SQL.counts_of_lanes.many(raw, desk.tenant_id, [lane.id])
            assert [tuple(row) for row in rows] == [("accepted", "", 5)]
            await SQL.fold_rollups.value(raw)
            assert [tuple(row) for row in await SQL.counts_of_lanes.many(raw, desk.tenant_id, [lane.id])] == [
                ("accepted", "", 5)
            ]


async def test_two_that_fold_at_once_fold_each_delta_once(desk: Desk) -> None:
    for _ in range(50):
        await desk.admit()
    lane = await desk.lane()

    async def fold() -> None:
        async with desk.post.engine.transaction() as raw:
            await SQL.fold_rollups.value(raw)

    await asyncio.gather(*(fold() for _ in range(4)))
    assert await desk.post.value("SELECT sum(n)::int FROM rollups WHERE lane_id = $1", lane.id) == 50
    assert await desk.post.value("SELECT count(*) FROM rollup_deltas WHERE lane_id = $1", lane.id) == 0


async def test_a_read_between_two_snapshots_never_counts_a_message_twice_or_not_at_all() -> None:
    ended = [counts.Count("sent", "", 3), counts.Count("failed", "poison", 1), counts.Count("failed", "x", 2)]
    assert counts.by_state(ended) == {"sent": 3, "failed": 3}
    assert counts.by_state([]) == {}


async def test_the_depth_of_the_queue_is_by_channel_and_state_with_the_oldest(post: Post, desk: Desk) -> None:
    await post.reset()
    ids = await desk.admit(4)
    await desk.post.execute("UPDATE queue SET state = 5 WHERE message_id = $1", ids[0])
    await desk.claim(1)
    async with post.engine.transaction() as raw:
        found = {(stat.channel, stat.state): stat for stat in await queue_stats(raw)}
    assert {key: stat.depth for key, stat in found.items()} == {
        ("email", "queued"): 2, ("email", "sending"): 1, ("email", "held"): 1,
    }  # fmt: skip
    oldest = found["email", "queued"].oldest_at
    assert oldest is not None
    assert abs(datetime.now(UTC) - oldest) < timedelta(minutes=1)


async def test_messages_are_found_by_state_address_and_channel_newest_first_page_by_page(desk: Desk) -> None:
    ids = await desk.admit(5)
    same = await desk.admit(2, address="same@example.org")
    await desk.suppress("p3@example.org")
    await desk.claim(4)
    async with desk.post.engine.transaction() as raw:

        async def found(wanted: search.Filter, limit: int = 100, before: UUID | None = None) -> list[UUID]:
            rows = await search.find(raw, desk.tenant_id, wanted, limit=limit, before=before)
            return [row["id"] for row in rows]

        everything = [*reversed(same), *reversed(ids)]
        assert await found(search.Filter()) == everything
        assert await found(search.Filter(), limit=3) == everything[:3]
        assert await found(search.Filter(), limit=3, before=everything[2]) == everything[3:6]
        assert await found(search.Filter(address="same@example.org")) == list(reversed(same))
        assert await found(search.Filter(address="same@example.org", channel="email", state="queued")) == list(
            reversed(same)
        )
        assert await found(search.Filter(state="blocked")) == [ids[3]]
        assert await found(search.Filter(state="sending")) == [ids[2], ids[1], ids[0]]
        assert await found(search.Filter(channel="sms")) == []
        assert await found(search.Filter(campaign_id=uuid4())) == []
        with pytest.raises(Refused, match="must be one of scheduled, queued"):
            await found(search.Filter(state="teleported"))


async def test_one_message_comes_with_its_story_and_anothers_is_not_found(post: Post, desk: Desk) -> None:
    (message_id,) = await desk.admit()
    await desk.suppress("p0@example.org")
    await desk.claim()
    async with post.engine.transaction() as raw:
        row, story = await search.get(raw, desk.tenant_id, message_id)
        assert row["state"] == "blocked"
        assert [(event.kind, event.data) for event in story] == [
            ("blocked", {"gate": "do_not_contact", "reason": "do not contact: manual"})
        ]
        with pytest.raises(Refused, match="no such message"):
            await search.get(raw, (await post.desk()).tenant_id, message_id)


# uncertain messages


async def doubtful(desk: Desk, count: int = 1) -> list[UUID]:
    """Messages whose answer was lost."""
    await desk.admit(count)
    claim = await desk.claim()
    assert claim.batch is not None
    settings = desk.post.runtime.settings
    rows = [
        record.row_for(
            each, claim.batch.token, Uncertain("answer_lost", "cut"), attempt=1, may_repeat=False, settings=settings
        )
        for each in claim.batch.messages
    ]
    async with desk.post.engine.transaction() as raw:
        await record.write(raw, desk.tenant_id, rows)
    return list(claim.batch.messages)


async def counted(desk: Desk) -> Counter[tuple[str, str]]:
    rows = await desk.post.fetch(
        "SELECT state, code, n FROM rollup_deltas WHERE tenant_id = $1 UNION ALL "
        "SELECT state, code, n FROM rollups WHERE tenant_id = $1",
        desk.tenant_id,
    )
    total: Counter[tuple[str, str]] = Counter()
    for row in rows:
        total[row["state"], row["code"]] += row["n"]
    return Counter({key: n for key, n in total.items() if n})


async def test_a_resent_message_is_queued_with_what_was_frozen_and_the_counts_follow(desk: Desk) -> None:
    ids = await doubtful(desk, 3)
    before = await desk.message(ids[0])
    async with desk.engine() as uow:
        done = await uncertain.resend(uow, TESTER, desk.tenant_id, [*ids[:2], uuid4()], reason="asked the server")
        entries = await audited(uow)
    assert sorted(done) == sorted(ids[:2])
    assert await desk.states(ids) == ["queued", "queued", "uncertain"]
    assert await counted(desk) == {("accepted", ""): 3, ("uncertain", "answer_lost"): 1}
    assert await desk.events(ids[0]) == ["uncertain", "resent"]
    claim = await desk.claim()
    assert claim.batch is not None
    again = claim.batch.messages[ids[0]]
    assert (again.attempt, again.dated_at) == (2, before["attempted_at"])
    assert (entries[0].action, entries[0].reason, entries[0].details["count"]) == (
        "uncertain.resend", "asked the server", 2,
    )  # fmt: skip


@pytest.mark.parametrize(("state", "code"), [("sent", None), ("failed", "answer_lost")])
async def test_a_marked_message_is_settled_by_hand_and_the_counts_follow(
    desk: Desk, state: Literal["sent", "failed"], code: str | None
) -> None:
    ids = await doubtful(desk, 2)
    async with desk.engine() as uow:
        done = await uncertain.mark(uow, TESTER, desk.tenant_id, ids[:1], state=state, reason="in their log")
        again = await uncertain.mark(uow, TESTER, desk.tenant_id, ids[:1], state="sent", reason="again")
        entries = await audited(uow)
    assert (done, again) == (ids[:1], [])
    message = await desk.message(ids[0])
    assert (message["state"], message["code"], message["detail"]) == (state, code, "in their log")
    assert await counted(desk) == {("accepted", ""): 2, (state, code or ""): 1, ("uncertain", "answer_lost"): 1}
    assert await desk.events(ids[0]) == ["uncertain", state]
    assert [entry.action for entry in entries if entry.action.startswith("uncertain")] == [f"uncertain.mark_{state}"]


async def test_two_people_who_decide_at_once_decide_once(desk: Desk) -> None:
    ids = await doubtful(desk, 20)

    async def resend() -> int:
        async with desk.engine() as uow:
            return len(await uncertain.resend(uow, TESTER, desk.tenant_id, ids, reason="both"))

    async def mark() -> int:
        async with desk.engine() as uow:
            return len(await uncertain.mark(uow, TESTER, desk.tenant_id, ids, state="sent", reason="both"))

    done = await asyncio.gather(resend(), mark(), resend())
    assert sum(done) == 20
    assert await desk.post.value("SELECT count(*) FROM queue WHERE tenant_id = $1", desk.tenant_id) == done[0] + done[2]


async def test_uncertain_messages_are_listed_oldest_first_and_only_the_tenants_own(post: Post, desk: Desk) -> None:
    ids = await doubtful(desk, 3)
    other = await post.desk()
    async with post.engine.transaction() as raw:
        rows = await uncertain.listed(raw, desk.tenant_id, limit=2)
        assert [row["message_id"] for row in rows] == ids[:2]
        rows = await uncertain.listed(raw, desk.tenant_id, limit=2, after=ids[1])
        assert [(row["message_id"], row["cause"], row["attempts"]) for row in rows] == [(ids[2], "answer_lost", 1)]
        assert await uncertain.listed(raw, desk.tenant_id, limit=2, campaign_id=uuid4()) == []
        assert await uncertain.ids(raw, desk.tenant_id, campaign_id=None) == ids
        assert await uncertain.ids(raw, other.tenant_id, campaign_id=None) == []
    async with other.engine() as uow:
        assert await uncertain.resend(uow, TESTER, other.tenant_id, ids, reason="not mine") == []
    assert await desk.states(ids) == ["uncertain"] * 3


async def test_the_app_role_may_look_but_never_write_the_ledger(post: Post, desk: Desk) -> None:
    ids = await desk.admit()
    async with post.runtime.db.uow(Role.APP, desk.tenant_id) as uow:
        assert await uow.raw.fetchval("SELECT count(*) FROM messages") == 1
    for table in ("messages", "queue", "message_events", "uncertain_messages", "rollups", "idempotency_keys"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with post.runtime.db.uow(Role.APP, desk.tenant_id) as uow:
                await uow.raw.execute(f"DELETE FROM {table}")
    async with post.runtime.db.uow(Role.APP, (await post.desk()).tenant_id) as uow:
        assert await uow.raw.fetchval("SELECT count(*) FROM messages WHERE id = $1", ids[0]) == 0


async def test_lanes_of_a_campaign_are_made_for_it_alone(desk: Desk) -> None:
    campaign_id = uuid4()
    async with desk.engine() as uow:
        made = await lane_for(
            uow, tenant_id=desk.tenant_id, channel="email", sender_id=desk.sender_id, campaign_id=campaign_id,
            message_class="bulk",
        )  # fmt: skip
        assert [row["id"] for row in await SQL.lanes_of_campaign.many(uow.raw, desk.tenant_id, campaign_id)] == [made]
