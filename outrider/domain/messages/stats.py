"""Depth and age of the queue and totals by state, for metrics, dashboards and `outrider queue status`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg

from outrider.domain.messages.rows import SQL
from outrider.domain.messages.states import QUEUE_WORDS


@dataclass(frozen=True, slots=True)
class QueueStat:
    """How many messages of a channel are in a state, and when the oldest was due."""

    channel: str
    state: str
    depth: int
    oldest_at: datetime | None


UNWORKABLE: Final = ("sender_unusable", "plugin_failed")
"""Causes of messages that nobody could even try: what the sender has is broken, or a plugin is."""


@dataclass(frozen=True, slots=True)
class Unworkable:
    """A sender of any tenant whose messages wait because nobody can work on them.

    `count`: those already found so and not due again yet; others of the sender wait behind them.
    """

    tenant_id: UUID
    sender: str
    cause: str
    count: int
    since: datetime


Totals = dict[tuple[str, str], int]
"""Messages by channel and state; `accepted` beside the end states of `states.py`."""


async def totals_before(raw: asyncpg.Connection, hour: datetime) -> Totals:
    """What was counted before an hour (engine role). Reads every rollup once: keep the answer, old hours stay."""
    return {(row["channel"], row["state"]): row["n"] for row in await SQL.totals_before.many(raw, hour)}


async def totals_since(raw: asyncpg.Connection, hour: datetime) -> Totals:
    """What was counted from an hour on (engine role); quick."""
    return {(row["channel"], row["state"]): row["n"] for row in await SQL.totals_since.many(raw, hour)}


async def queue_stats(raw: asyncpg.Connection) -> list[QueueStat]:
    """The whole queue by channel and state (engine role). Reads every open message once: cache the answer."""
    return [
        QueueStat(row["channel"], QUEUE_WORDS[row["state"]], row["depth"], row["oldest_at"])
        for row in await SQL.queue_stats.many(raw)
    ]


async def unworkable(raw: asyncpg.Connection) -> list[Unworkable]:
    """Whose messages cannot be worked on, all tenants, at most a thousand (engine role). Reads every open message."""
    return [Unworkable(**row) for row in await SQL.queue_unworkable.many(raw, list(UNWORKABLE))]
