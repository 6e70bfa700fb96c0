"""Depth and age of the queue and totals by state, for metrics, dashboards and `outrider queue status`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

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
