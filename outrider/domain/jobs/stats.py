"""Figures of jobs: depth and age per queue, workers, what is stranded, what a drain still waits for (engine role)."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from outrider.data.db import UnitOfWork
from outrider.domain.jobs import queues
from outrider.domain.jobs.rows import SQL
from outrider.domain.jobs.states import OPEN, STATES

SILENT_S = 30.0
"""A worker whose last heartbeat is older is taken for dead."""
STRANDED_AFTER_S = 30.0
RECENT_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Depth:
    """What one queue holds: jobs per state (ended ones of the last 24 hours), and how long the oldest has waited."""

    queue: queues.Queue
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STATES, 0))
    oldest_s: float = 0.0

    @property
    def open_count(self) -> int:
        """Jobs that still have something to do."""
        return sum(self.counts[state] for state in OPEN)


@dataclass(frozen=True, slots=True)
class Stranded:
    """Jobs that wait although nothing holds them back: no live worker runs this type in this queue."""

    queue: str
    type: str
    count: int
    oldest_s: float
    cause: str


@dataclass(frozen=True, slots=True)
class Worker:
    """A process that runs jobs, as the others see it."""

    id: UUID
    host: str
    pid: int
    started_at: datetime
    heartbeat_at: datetime
    types: tuple[str, ...]
    queues: tuple[str, ...]
    running: tuple[str, ...]
    is_stopping: bool
    silent_s: float

    @property
    def is_alive(self) -> bool:
        """Whether its heartbeat is recent."""
        return self.silent_s <= SILENT_S


async def figures(uow: UnitOfWork) -> list[Depth]:
    """What every queue holds, over all tenants."""
    depths = {queue.name: Depth(queue) for queue in await queues.listed(uow)}
    oldest: dict[str, float] = {}
    for row in await SQL.queue_depths.many(uow.raw, RECENT_S):
        depths[row["queue"]].counts[row["state"]] = row["n"]
        oldest[row["queue"]] = max(oldest.get(row["queue"], 0.0), row["oldest_s"] or 0.0)
    return [Depth(depth.queue, depth.counts, oldest.get(name, 0.0)) for name, depth in depths.items()]


async def counts(uow: UnitOfWork) -> dict[str, dict[str, int]]:
    """Jobs per queue and state of the unit of work's tenant, all that are kept."""
    found: dict[str, dict[str, int]] = {}
    for row in await SQL.job_counts.many(uow.raw, uow.tenant):
        found.setdefault(row["queue"], dict.fromkeys(STATES, 0))[row["state"]] = row["n"]
    return found


async def stranded(uow: UnitOfWork, *, after_s: float = STRANDED_AFTER_S) -> list[Stranded]:
    """Jobs that no live worker can run, by queue and type; a paused queue is somebody's wish and not listed."""
    return [
        Stranded(
            row["queue"],
            row["type"],
            row["n"],
            row["oldest_s"],
            "no live worker knows this type" if row["has_worker"] else "no scheduler process is alive",
        )
        for row in await SQL.stranded.many(uow.raw, SILENT_S, after_s)
    ]


async def workers(uow: UnitOfWork) -> list[Worker]:
    """Every process that runs jobs or did lately."""
    return [
        Worker(
            row["id"], row["host"], row["pid"], row["started_at"], row["heartbeat_at"], tuple(row["types"]),
            tuple(row["queues"]), tuple(row["running"]), row["is_stopping"], row["silent_s"],
        )
        for row in await SQL.worker_list.many(uow.raw)
    ]  # fmt: skip


async def held(uow: UnitOfWork, names: list[str] | None = None) -> dict[str, dict[str, int]]:
    """What a drain still waits for and what it leaves: open jobs per queue and state; empty queues are left out."""
    return {
        depth.queue.name: {state: depth.counts[state] for state in OPEN if depth.counts[state]}
        for depth in await figures(uow)
        if depth.open_count and (names is None or depth.queue.name in names)
    }
