"""Upkeep on a real database: months ahead, months past, and what retention must never take."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from structlog.testing import capture_logs

from outrider.base.ids import first_id_at
from outrider.contracts.channel import Attachment, Content
from outrider.data.db import Role
from outrider.domain.messages.rows import SQL
from outrider.engine.dispatch.senders import _is_small
from outrider.engine.maintenance import upkeep
from tests.kit.dispatch import Desk, Post

OLD = datetime(2020, 1, 15, tzinfo=UTC)
LOW, HIGH = (UUID(int=first_id_at(OLD.replace(month=month, day=1)).int >> 80 << 80) for month in (1, 2))


@pytest.fixture
async def desk(post: Post) -> Desk:
    return await post.desk()


async def run(post: Post, name: str, **settings: object) -> list[str]:
    """One round of upkeep; gives the names of what it logged."""
    runtime = replace(post.runtime, settings=post.runtime.settings.model_copy(update=settings))
    rounds = upkeep.Upkeep(runtime)
    steps = {"partitions": rounds.partitions, "retention": rounds.retention, "audit_heads": rounds.log_audit_heads}
    with capture_logs() as logs:
        await steps[name]()
    return [log["event"] for log in logs]


async def months(post: Post) -> set[str]:
    rows = await post.fetch(
        "SELECT inhrelid::regclass::text name FROM pg_inherits WHERE inhparent = 'messages'::regclass"
    )
    return {row["name"] for row in rows}


async def old_month(post: Post) -> None:
    """A month long past, as the product would have made it then."""
    async with post.runtime.db.uow(Role.OWNER) as uow:
        for parent in ("messages", "message_events"):
            await uow.raw.execute(
                f"CREATE TABLE IF NOT EXISTS {parent}_202001 PARTITION OF {parent} "
                f"FOR VALUES FROM ('{LOW}') TO ('{HIGH}')"
            )


async def old_message(desk: Desk, state: str) -> UUID:
    """A message of that month."""
    message_id = UUID(int=first_id_at(OLD).int | uuid4().int >> 70)
    lane = await desk.lane()
    await desk.post.execute(
        "INSERT INTO messages (tenant_id, id, lane_id, content_id, address, purpose, due_at, state) "
        "VALUES ($1, $2, $3, $4, 'a@example.org', 'x', now(), $5)",
        desk.tenant_id, message_id, lane.id, desk.content_id, state,
    )  # fmt: skip
    return message_id


async def test_months_are_made_ahead_and_asking_again_makes_none(post: Post) -> None:
    before = await months(post)
    assert "partitions_made" in await run(post, "partitions", partitions_ahead=5)
    made = await months(post) - before
    assert made
    assert await run(post, "partitions", partitions_ahead=5) == []
    this = datetime.now(UTC).replace(day=15)
    ahead = {f"messages_{this + n * timedelta(days=30.4):%Y%m}" for n in range(6)}
    assert len(ahead) == 6
    assert ahead <= await months(post)
    assert made <= ahead


async def test_a_month_past_its_time_is_dropped_with_its_events(post: Post, desk: Desk) -> None:
    await old_month(post)
    message_id = await old_message(desk, "sent")
    await post.execute(
        "INSERT INTO message_events (tenant_id, message_id, kind) VALUES ($1, $2, 'sent')", desk.tenant_id, message_id
    )
    assert await run(post, "partitions") == ["partition_dropped"]
    assert "messages_202001" not in await months(post)
    for table, column in (("messages", "id"), ("message_events", "message_id")):
        assert await post.value(f"SELECT count(*) FROM {table} WHERE {column} = $1", message_id) == 0


@pytest.mark.parametrize("state", ["queued", "uncertain"])
async def test_a_month_with_something_open_or_undecided_is_kept(post: Post, desk: Desk, state: str) -> None:
    await old_month(post)
    message_id = await old_message(desk, state)
    lane = await desk.lane()
    if state == "queued":
        await post.execute(
            "INSERT INTO queue (tenant_id, message_id, lane_id, due_at, priority, state) "
            "VALUES ($1, $2, $3, now(), 5, 5)",
            desk.tenant_id, message_id, lane.id,
        )  # fmt: skip
    else:
        await post.execute(
            "INSERT INTO uncertain_messages (tenant_id, message_id, lane_id, cause, detail) "
            "VALUES ($1, $2, $3, 'x', '')",
            desk.tenant_id, message_id, lane.id,
        )  # fmt: skip
    assert await run(post, "partitions") == ["partition_kept"]
    assert "messages_202001" in await months(post)
    for table in ("queue", "uncertain_messages"):
        await post.execute(f"DELETE FROM {table} WHERE tenant_id = $1", desk.tenant_id)
    assert await run(post, "partitions") == ["partition_dropped"]


async def test_a_month_within_its_time_is_kept(post: Post) -> None:
    await old_month(post)
    days = (datetime.now(UTC) - OLD).days + 40
    assert await run(post, "partitions", keep_messages_days=days) == []
    assert await run(post, "partitions", keep_messages_days=days - 80) == ["partition_dropped"]


async def test_rows_outside_every_month_raise_an_alarm_until_their_month_is_made_and_takes_them(
    post: Post, desk: Desk
) -> None:
    lane = await desk.lane()
    beyond = datetime.now(UTC) + timedelta(days=31 * 8)
    message_id = first_id_at(beyond)
    await post.execute(
        "INSERT INTO messages (tenant_id, id, lane_id, content_id, address, purpose, due_at) "
        "VALUES ($1, $2, $3, $4, 'a@example.org', 'x', now())",
        desk.tenant_id, message_id, lane.id, desk.content_id,
    )  # fmt: skip
    await post.execute(
        "INSERT INTO message_events (tenant_id, message_id, kind) VALUES ($1, $2, 'held')", desk.tenant_id, message_id
    )
    assert await run(post, "partitions") == ["rows_in_default_partition"]
    assert await run(post, "partitions", partitions_ahead=12) == ["rows_in_default_partition", "partitions_made"]
    assert await run(post, "partitions", partitions_ahead=12) == []
    for table, key in (("messages", "id"), ("message_events", "message_id")):
        home = await post.value(f"SELECT tableoid::regclass::text FROM {table} WHERE {key} = $1", message_id)
        assert home == f"{table}_{beyond:%Y%m}"
        indexes = "SELECT count(*) FROM pg_index WHERE indrelid = $1::text::regclass"
        assert await post.value(indexes, home) == await post.value(indexes, f"{table}_default")


# retention


async def test_retention_takes_what_is_past_its_time_and_leaves_what_is_not(post: Post, desk: Desk) -> None:
    open_lane, campaign_lane = await desk.lane(), await desk.lane("bulk", campaign_id=uuid4())
    for key, age in (("old", "49 hours"), ("new", "47 hours")):
        await post.execute(
            f"INSERT INTO idempotency_keys (tenant_id, key, request_hash, status, body, created_at) "
            f"VALUES ($1, $2, '\\x00', 202, '{{}}', now() - interval '{age}')",
            desk.tenant_id, key,
        )  # fmt: skip
    for lane, age in ((open_lane, "401 days"), (open_lane, "399 days"), (campaign_lane, "401 days")):
        await post.execute(
            "INSERT INTO rollups (tenant_id, lane_id, hour, state, n) "
            f"VALUES ($1, $2, date_trunc('hour', now() - interval '{age}'), 'sent', 1)",
            desk.tenant_id, lane.id,
        )  # fmt: skip
    for name, seen in (("gone", "8 days"), ("here", "1 minute")):
        await post.execute(
            "INSERT INTO workers (id, role, host, boot_id, pid, version, heartbeat_at) "
            f"VALUES ($1, 'worker', $2, 'x', 1, 'x', now() - interval '{seen}')",
            uuid4(), name,
        )  # fmt: skip
    await run(post, "retention")
    keys = await post.fetch("SELECT key FROM idempotency_keys WHERE tenant_id = $1", desk.tenant_id)
    assert [row["key"] for row in keys] == ["new"]
    rollups = await post.fetch("SELECT lane_id FROM rollups WHERE tenant_id = $1", desk.tenant_id)
    assert sorted(row["lane_id"] for row in rollups) == sorted([open_lane.id, campaign_lane.id])
    assert [row["host"] for row in await post.fetch("SELECT host FROM workers WHERE host IN ('gone', 'here')")] == [
        "here"
    ]


async def test_content_is_kept_while_anything_still_needs_it(post: Post, desk: Desk) -> None:
    unused, waiting, undecided = [await _content(desk, n) for n in range(3)]
    desk.content_id = waiting
    await desk.admit()
    desk.content_id = undecided
    (message_id,) = await desk.admit()
    await post.execute(
        "WITH gone AS (DELETE FROM queue WHERE message_id = $1 RETURNING *) "
        "INSERT INTO uncertain_messages (tenant_id, message_id, lane_id, cause, detail) "
        "SELECT tenant_id, message_id, lane_id, 'x', '' FROM gone",
        message_id,
    )
    await run(post, "retention")
    left = {row["id"] for row in await post.fetch("SELECT id FROM contents WHERE tenant_id = $1", desk.tenant_id)}
    assert {waiting, undecided} <= left
    assert unused not in left


async def _content(desk: Desk, number: int) -> UUID:
    made: UUID = await desk.post.value(
        "INSERT INTO contents (tenant_id, channel, hash, is_template, text, created_at) "
        "VALUES ($1, 'email', $2, false, 'x', now() - interval '91 days') RETURNING id",
        desk.tenant_id, bytes([7, number]),
    )  # fmt: skip
    return made


async def test_folding_goes_on_while_there_is_a_lot(post: Post, desk: Desk) -> None:
    await desk.admit()
    steps = {loop.name: loop.step for loop in upkeep.loops(post.runtime)}
    assert await steps["fold_rollups"]() is False
    await post.execute(
        "INSERT INTO rollup_deltas (tenant_id, lane_id, hour, state, n) "
        "SELECT $1, $2, now(), 'sent', 1 FROM generate_series(1, 20001)",
        desk.tenant_id, (await desk.lane()).id,
    )  # fmt: skip
    assert await steps["fold_rollups"]() is True
    async with post.engine.transaction() as raw:
        rows = await SQL.counts_of_lanes.many(raw, desk.tenant_id, [(await desk.lane()).id])
    assert {row["state"]: row["n"] for row in rows} == {"accepted": 1, "sent": 20001}


async def test_the_heads_of_the_audit_chains_are_in_the_log(post: Post) -> None:
    assert set(await run(post, "audit_heads")) <= {"audit_head"}


@pytest.mark.parametrize(
    ("content", "is_small"),
    [
        (Content("k", "s", "<p>x</p>", "x"), True),
        (Content("k", "s", "x" * 600_000, None), False),
        (Content("k", "s", None, "x" * 600_000), False),
        (Content("k", "s", None, "x", attachments=(Attachment("a", "text/plain", b"x" * 600_000),)), False),
    ],
)
def test_what_is_large_is_not_kept_in_memory(content: Content, *, is_small: bool) -> None:
    assert _is_small(content) is is_small
