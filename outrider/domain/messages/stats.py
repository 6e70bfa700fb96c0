"""Depth and age of the queue, for metrics, dashboards and `outrider queue status`."""

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


async def queue_stats(raw: asyncpg.Connection) -> list[QueueStat]:
    """The whole queue by channel and state (engine role). Reads every open message once: cache the answer."""
    return [
        QueueStat(row["channel"], QUEUE_WORDS[row["state"]], row["depth"], row["oldest_at"])
        for row in await SQL.queue_stats.many(raw)
    ]
