"""`data validate`: a sound ledger has no findings; each invariant broken by SQL is reported, it and the id alone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import pytest

from outrider.base.ids import NIL
from outrider.contracts.outcome import Accepted, Deferred, Outcome, Rejected, Uncertain
from outrider.data.db import Role
from outrider.domain.messages import uncertain
from outrider.domain.messages.cancel import cancel_campaign
from outrider.domain.messages.rows import SQL
from outrider.domain.messages.validate import MOST, Finding, validate
from outrider.engine.dispatch import record
from tests.kit.api import TESTER
from tests.kit.campaigns import fanned_out, launched
from tests.kit.dispatch import Desk, Post, posts


@dataclass
class Sound:
    """A ledger with messages in every state; ids by what became of them."""

    post: Post
    desk: Desk
    ids: dict[str, UUID]
    campaign_lane: int


@pytest.fixture(scope="module")
async def sound(new_database: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Sound]:
    async with posts(new_database("migrated"), tmp_path_factory.mktemp("validate")) as post:
        yield await populated(post)


async def populated(post: Post) -> Sound:
    """Messages that went every way there is, by the product's own statements."""
    desk = await post.desk()
    outcomes: dict[str, Outcome] = {
        "sent": Accepted("provider-1"),
        "failed": Rejected("mailbox_unavailable", "550"),
        "uncertain": Uncertain("answer_lost", "cut"),
        "marked": Uncertain("answer_lost", "cut"),
        "resent": Uncertain("answer_lost", "cut"),
        "scheduled": Deferred("server_deferred", "450"),
    }
    await desk.admit(len(outcomes), address="way{}@example.org")
    claim = await desk.claim()
    assert claim.batch is not None
    rows = [
        record.row_for(each, claim.batch.token, outcome, attempt=1, may_repeat=False, settings=post.runtime.settings)
        for each, outcome in zip(claim.batch.messages, outcomes.values(), strict=True)
    ]
    async with post.engine.transaction() as raw:
        await record.write(raw, desk.tenant_id, rows)
    ids = dict(zip(outcomes, claim.batch.messages, strict=True))
    async with desk.engine() as uow:
        await uncertain.mark(uow, TESTER, desk.tenant_id, [ids["marked"]], state="failed", reason="test")
        await uncertain.resend(uow, TESTER, desk.tenant_id, [ids["resent"]], reason="test")
    await desk.suppress("no0@example.org")
    ids["blocked"], *_ = await desk.admit(address="no{}@example.org")
    await desk.claim(1)  # the resent one is due first and alone: it stays leased
    await desk.claim()
    ids["queued"], *_ = await desk.admit(address="waits{}@example.org")
    campaign, cancelled = await launched(desk, 3), await launched(desk, 2)
    await fanned_out(post)
    async with desk.engine() as uow:
        assert await cancel_campaign(uow, desk.tenant_id, cancelled.id) == 2
    ids["member"], ids["member2"], ids["member3"] = await campaign.messages()
    ids["cancelled"] = (await cancelled.messages())[0]
    async with post.engine.transaction() as raw:
        await SQL.claim_hold.run(
            raw, desk.tenant_id, [ids["member3"]], [(await desk.message(ids["sent"]))["finished_at"]], ["quiet: test"]
        )
        await SQL.fold_rollups.value(raw)
    return Sound(post, desk, ids, (await campaign.lane()).id)


async def findings(raw: Any, **more: Any) -> list[Finding]:
    return [finding async for finding in validate(raw, **more)]


async def test_a_ledger_that_went_every_way_has_no_findings(sound: Sound) -> None:
    states = await sound.desk.states(list(sound.ids.values()))
    assert dict(zip(sound.ids, states, strict=True)) == {
        "sent": "sent", "failed": "failed", "uncertain": "uncertain", "marked": "failed", "resent": "sending",
        "scheduled": "scheduled", "blocked": "blocked", "queued": "queued", "member": "queued", "member2": "queued",
        "member3": "held", "cancelled": "cancelled",
    }  # fmt: skip
    async with sound.post.runtime.db.uow(Role.ENGINE) as uow:
        assert await findings(uow.raw) == []


_OF = "FROM messages WHERE id = $1"
_WAITS = (
    "INSERT INTO queue (tenant_id, message_id, lane_id, due_at, priority, state) "
    f"SELECT tenant_id, id, lane_id, due_at, 5, 0 {_OF}"
)
_LISTED = (
    "INSERT INTO uncertain_messages (tenant_id, message_id, lane_id, cause, detail) "
    f"SELECT tenant_id, id, lane_id, '', '' {_OF}"
)
_STOP = (
    "INSERT INTO suppressions (tenant_id, channel, address_hash, reason, source, created_by, created_at) "
    "SELECT {}, 'email', sha256(convert_to(address, 'UTF8')), 'stop', 'test', 'test', "
    "attempted_at - interval '3 seconds' " + _OF
)
_EVENT = "INSERT INTO message_events (tenant_id, message_id, kind, at) SELECT tenant_id, id, {} " + _OF
_LANE = "UPDATE lanes SET is_open = false WHERE id = (SELECT lane_id FROM queue WHERE message_id = $1)"
BREACHES = [
    ("I2", "queued", "DELETE FROM queue WHERE message_id = $1"),
    ("I2", "sent", _WAITS),
    ("I2", "member3", "UPDATE queue SET reason = NULL WHERE message_id = $1"),
    ("I2", "queued", "UPDATE queue SET state = 7 WHERE message_id = $1"),
    ("I2", "uncertain", "DELETE FROM uncertain_messages WHERE message_id = $1"),
    ("I2", "failed", _LISTED),
    ("I5", "sent", _STOP.format("tenant_id")),
    ("I5", "sent", _STOP.format(f"'{NIL}'::uuid")),
    ("I7", "member2", "DELETE FROM campaign_recipients WHERE message_id = $1"),
    ("I9", "sent", "UPDATE message_events SET kind = 'failed' WHERE message_id = $1 AND kind = 'sent'"),
    ("I9", "blocked", "DELETE FROM message_events WHERE message_id = $1"),
    ("I9", "queued", _EVENT.format("'sent', now()")),
    ("I9", "member", _EVENT.format("'held', now() - interval '1 day'")),
    ("I11", "resent", "UPDATE queue SET lease_until = now() - interval '71 seconds' WHERE message_id = $1"),
    ("lanes", "scheduled", _LANE),
]


@pytest.mark.parametrize(("invariant", "who", "breach"), BREACHES)
async def test_a_breach_is_reported_with_its_id_and_nothing_else_is(
    sound: Sound, invariant: str, who: str, breach: str
) -> None:
    found = await after(sound, breach, sound.ids[who])
    assert {finding.invariant for finding in found} == {invariant}, found
    assert {finding.tenant_id for finding in found} == {sound.desk.tenant_id}
    expected = {"resent", "queued", "scheduled"} if invariant == "lanes" else {who}
    assert {each for finding in found for each in finding.ids} == {str(sound.ids[name]) for name in expected}


async def test_an_unknown_state_is_reported(sound: Sound) -> None:
    found = await after(sound, "UPDATE messages SET state = 'teleported' WHERE id = $1", sound.ids["sent"])
    mine = [f for f in found if f.detail == "the ledger has the unknown state teleported"]
    assert [(f.invariant, f.ids) for f in mine] == [("I2", [str(sound.ids["sent"])])]


async def test_counts_that_drifted_are_reported_by_lane_state_and_both_numbers(sound: Sound) -> None:
    drift = "UPDATE rollups SET n = n + 1 WHERE lane_id = $1 AND state = 'accepted'"
    (found,) = await after(sound, drift, sound.campaign_lane)
    assert (found.invariant, found.ids) == ("I8", [f"lane {sound.campaign_lane}"])
    assert found.detail == "accepted: the rollups say 4, the ledger has 3"


async def test_a_delta_that_is_not_folded_yet_counts(sound: Sound) -> None:
    extra = (
        "INSERT INTO rollup_deltas (tenant_id, lane_id, hour, state, code, n) "
        "SELECT tenant_id, id, date_trunc('hour', now()), 'failed', 'poison', 2 FROM lanes WHERE id = $1"
    )
    (found,) = await after(sound, extra, sound.campaign_lane)
    assert found.detail == "failed (poison): the rollups say 2, the ledger has 0"


async def test_a_campaign_that_reached_somebody_twice_is_reported_with_both_messages(sound: Sound) -> None:
    ids = sorted(str(sound.ids[name]) for name in ("member", "member2"))
    for column, detail in (("contact_id", "one contact, "), ("address", "one address, ")):
        double = f"UPDATE messages SET {column} = (SELECT {column} FROM messages WHERE id = $1) WHERE id = '{ids[1]}'"
        found = await after(sound, double, UUID(ids[0]))
        twice = [f for f in found if "several" in f.detail]
        assert [(f.invariant, sorted(f.ids)) for f in twice] == [("I7", ids)]
        assert twice[0].detail.startswith(detail)


async def test_a_message_that_vanished_from_the_ledger_is_missed_by_queue_recipients_and_counts(sound: Sound) -> None:
    found = await after(sound, "DELETE FROM messages WHERE id = $1", sound.ids["member"])
    assert {(f.invariant, f.ids[0]) for f in found} == {
        ("I2", str(sound.ids["member"])),
        ("I7", str(sound.ids["member"])),
        ("I8", f"lane {sound.campaign_lane}"),
    }


async def test_rows_outside_every_month_are_reported(sound: Sound) -> None:
    far = UUID("7fffffff-ffff-7000-8000-000000000001")
    add = (
        "WITH m AS (INSERT INTO messages (tenant_id, id, lane_id, content_id, address, purpose, due_at, state) "
        f"SELECT tenant_id, '{far}', lane_id, content_id, 'far@example.org', 'x', due_at, 'queued' {_OF} "
        "RETURNING *), q AS (INSERT INTO queue (tenant_id, message_id, lane_id, due_at, priority, state) "
        "SELECT tenant_id, id, lane_id, due_at, 5, 0 FROM m), "
        "d AS (INSERT INTO rollup_deltas (tenant_id, lane_id, hour, state, n) "
        "SELECT tenant_id, lane_id, now(), 'accepted', 1 FROM m) "
        "SELECT 1"
    )
    (found,) = await after(sound, add, sound.ids["sent"])
    assert (found.invariant, found.ids, found.detail) == (
        "partitions",
        [str(far)],
        "a message in the default partition",
    )


async def test_a_lease_is_overdue_by_the_sweep_of_this_installation(sound: Sound) -> None:
    late = "UPDATE queue SET lease_until = now() - interval '20 seconds' WHERE message_id = $1"
    assert await after(sound, late, sound.ids["resent"]) == []
    (found,) = await after(sound, late, sound.ids["resent"], sweep_s=5.0)
    assert found.invariant == "I11"


async def test_a_flood_of_breaches_is_cut_at_a_hundred(sound: Sound) -> None:
    flood = (
        "INSERT INTO queue (tenant_id, message_id, lane_id, due_at, priority, state) "
        "SELECT tenant_id, outrider_id(), lane_id, due_at, 5, 0 FROM messages, generate_series(1, 1000) WHERE id = $1"
    )
    (found,) = await after(sound, flood, sound.ids["sent"])
    assert (found.invariant, len(found.ids)) == ("I2", MOST)


async def after(sound: Sound, breach: str, who: UUID | int, **more: Any) -> list[Finding]:
    """What validation finds after a breach, which is taken back."""
    raw = await sound.post.engine.connect()
    try:
        change = raw.transaction()
        await change.start()
        status = await raw.execute(breach, who)
        assert not status.endswith(" 0"), "the breach changed nothing"
        found = await findings(raw, **more)
        await change.rollback()
    finally:
        await raw.close()
    return found
