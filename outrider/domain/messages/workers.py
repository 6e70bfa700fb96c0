"""The record of running processes: who lives, where, and when its loops last ran."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg
import orjson

from outrider.domain.messages.rows import SQL


@dataclass(frozen=True, slots=True)
class Process:
    """What a process says of itself."""

    id: UUID
    role: str
    host: str
    boot_id: str
    pid: int
    version: str
    journal: str | None
    health_url: str | None


@dataclass(frozen=True, slots=True)
class Seen:
    """A process as the others see it, by the database's clock.

    stalled_s      for how long its event loop stood still last; None: it never did
    stalled_ago_s  how long ago that was over
    """

    process: Process
    state: str
    loops: dict[str, float]
    started_at: datetime
    heartbeat_at: datetime
    silent_s: float
    stalled_s: float | None = None
    stalled_ago_s: float | None = None


async def beat(
    raw: asyncpg.Connection,
    process: Process,
    *,
    state: str,
    loops: Mapping[str, float],
    stall: tuple[datetime, float] | None = None,
) -> None:
    """Write a process's heartbeat (engine role).

    Takes:   stall: when its event loop last stood still, as of the end, and for how many seconds.
    """
    await SQL.worker_beat.run(
        raw, process.id, process.role, process.host, process.boot_id, process.pid, process.version, process.journal,
        state, orjson.dumps(dict(loops)).decode(), process.health_url, *(stall or (None, None)),
    )  # fmt: skip


async def listed(raw: asyncpg.Connection) -> list[Seen]:
    """Every process that has a record, the liveliest first."""
    return [
        Seen(
            Process(
                row["id"], row["role"], row["host"], row["boot_id"], row["pid"], row["version"], row["journal"],
                row["health_url"],
            ),
            row["state"],
            orjson.loads(row["loops"]),
            row["started_at"],
            row["heartbeat_at"],
            row["silent_s"],
            row["stalled_s"],
            row["stalled_ago_s"],
        )
        for row in await SQL.worker_list.many(raw)
    ]  # fmt: skip
