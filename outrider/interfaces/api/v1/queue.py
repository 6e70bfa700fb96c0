"""Queue statistics: open to loopback and the operator's networks as aggregates, else with a key."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
from litestar import Request, get
from litestar.di import NamedDependency

from outrider.base.errors import Unavailable
from outrider.data.runtime import Runtime
from outrider.domain.jobs.stats import Depth
from outrider.interfaces.api.job_figures import JobFigures
from outrider.interfaces.api.metrics import OPEN_TO_NETWORKS, admit
from outrider.interfaces.api.middleware.entry import Authenticator
from outrider.interfaces.api.snapshot import Snapshots


class QueueDepth(msgspec.Struct):
    """Open messages of a channel in a state; `oldest_age_s` is 0 while the oldest is not due yet."""

    channel: str
    state: str
    depth: int
    oldest_at: datetime | None
    oldest_age_s: float


class JobQueueDepth(msgspec.Struct):
    """Jobs of a queue: BullMQ's waiting, active and delayed; `failed` of the last 24 hours."""

    queue: str
    waiting: int
    active: int
    delayed: int
    failed: int
    oldest_age_s: float
    is_paused: bool
    is_closed: bool


class QueueStats(msgspec.Struct):
    """The whole queue of the installation, at most two seconds old: messages, then the queues of jobs."""

    read_at: datetime
    total: int
    totals: dict[str, int]
    queues: list[QueueDepth]
    jobs: list[JobQueueDepth]


@get("/queue/stats", opt=OPEN_TO_NETWORKS)
async def stats(
    request: Request[Any, Any, Any],
    runtime: NamedDependency[Runtime],
    snapshots: NamedDependency[Snapshots],
    authenticator: NamedDependency[Authenticator],
    job_figures: NamedDependency[JobFigures],
) -> QueueStats:
    """Count open messages by channel and state, and jobs by queue, with the age of the oldest [S3-08, S3-16]."""
    await admit(request, runtime, authenticator, "queue:read")
    snapshot = await snapshots.now()
    if not snapshot.is_up:
        raise Unavailable("database_unavailable", "the database is not reachable; try again")
    totals: dict[str, int] = {}
    for row in snapshot.queue:
        totals[row.state] = totals.get(row.state, 0) + row.depth
    rows = [
        QueueDepth(row.channel, row.state, row.depth, row.oldest_at, round(row.oldest_age_s, 1))
        for row in snapshot.queue
    ]
    jobs = [_jobs_of(depth) for depth in (await job_figures.needed()).depths]
    return QueueStats(snapshot.read_at, sum(totals.values()), totals, rows, jobs)


def _jobs_of(depth: Depth) -> JobQueueDepth:
    counts, queue = depth.counts, depth.queue
    return JobQueueDepth(
        queue=queue.name,
        waiting=counts["enqueued"],
        active=counts["processing"],
        delayed=counts["scheduled"],
        failed=counts["failed"],
        oldest_age_s=round(depth.oldest_s, 1),
        is_paused=queue.paused_at is not None,
        is_closed=queue.closed_at is not None,
    )


ROUTES = [stats]
