"""What lies around in an old installation: a ledger of many months, and open messages that may not go.

Owns writing it quickly, straight into the tables, in the shape the product itself leaves behind.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg

from bench.kit.figures import say
from bench.kit.ours import Sender
from bench.kit.servers import Postgres
from outrider.base.ids import first_id_at
from outrider.data.sql import Statements, parse

_FILE = Path(__file__).with_suffix(".sql")
SQL = Statements(_FILE.name, parse(_FILE.read_text(encoding="utf-8"), _FILE.name))
_SLICE = 250_000
_NEW_PARTITIONS = 4
"""The current month and three ahead."""


def months(count: int) -> list[int]:
    """The last so many months before this one, oldest first, counted from year 0."""
    today = datetime.now(UTC)
    at = today.year * 12 + today.month - 1
    return list(range(at - count, at))


async def make_partitions(database: Postgres, count: int) -> None:
    """Monthly partitions back in time until there are `count`, each as the product makes them."""
    raw = await asyncpg.connect(database.superuser_url)
    try:
        there = await raw.fetchval("SELECT count(*) FROM pg_inherits WHERE inhparent = 'messages'::regclass") - 1
        await raw.execute("SET ROLE outrider_owner")
        for month in months(count - there + 1)[: count - there]:
            low, high = _first_id(month), _first_id(month + 1)
            for parent, fill in (("messages", 50), ("message_events", 100)):
                name = f"{parent}_{month // 12}{month % 12 + 1:02d}"
                await raw.execute(
                    f"CREATE TABLE IF NOT EXISTS {name} PARTITION OF {parent} "
                    f"FOR VALUES FROM ('{low}') TO ('{high}') WITH (fillfactor={fill})"
                )
    finally:
        await raw.close()


def _begin(month: int, day: int = 1) -> datetime:
    return datetime(month // 12, month % 12 + 1, day, tzinfo=UTC)


def _first_id(month: int) -> UUID:
    """The bound of a month's partition: its first millisecond, all else zero."""
    return UUID(int=first_id_at(_begin(month)).int >> 80 << 80)


async def fill_ledger(database: Postgres, sender: Sender, tenants: list[UUID], *, rows: int, partitions: int) -> None:
    """Finished messages of several tenants, spread over the partitions before the current one."""
    await make_partitions(database, partitions)
    past = months(partitions - _NEW_PARTITIONS)
    per_month = rows // len(past)
    raw = await asyncpg.connect(database.superuser_url)
    try:
        lane_id = await SQL.lane.value(raw, sender.tenant_id, sender.id, None, "bulk")
        await raw.execute("SET synchronous_commit = off")
        for number, month in enumerate(past, 1):
            begin_ms = int(_begin(month, 2).timestamp() * 1000)
            for first in range(0, per_month, _SLICE):
                last = min(first + _SLICE, per_month) - 1
                await SQL.finished_rows.run(raw, tenants, begin_ms, first, last, lane_id, sender.content_id)
            if number % 8 == 0:
                say(f"ledger: {number * per_month:,} of {rows:,} rows")
    finally:
        await raw.close()


async def leave_open(
    database: Postgres,
    sender: Sender,
    throttled_sender: Sender,
    *,
    paused: int,
    scheduled: int,
    held: int,
    throttled: int,
) -> None:
    """Open messages of the sender's tenant that may not go now, each for another reason.

    The throttled ones are transactional: they pass every gate and meet the bucket alone.
    """
    tenant_id, campaign_id = sender.tenant_id, uuid4()
    raw = await asyncpg.connect(database.superuser_url)
    try:
        await SQL.pause_campaign.run(raw, tenant_id, str(campaign_id))
        await SQL.throttle.run(raw, tenant_id, throttled_sender.id)
        shared = await SQL.lane.value(raw, tenant_id, sender.id, None, "bulk")
        for count, state, lane_id in (
            (paused, 0, await SQL.lane.value(raw, tenant_id, sender.id, campaign_id, "bulk")),
            (scheduled, 4, shared),
            (held, 5, shared),
            (throttled, 0, await SQL.lane.value(raw, tenant_id, throttled_sender.id, None, "transactional")),
        ):
            for first in range(0, count, _SLICE):
                await SQL.open_rows.run(raw, tenant_id, lane_id, sender.content_id, state, min(_SLICE, count - first))
        say(f"open and not to go: {paused + scheduled + held + throttled:,}")
    finally:
        await raw.close()
