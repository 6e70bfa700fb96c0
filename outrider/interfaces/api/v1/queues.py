"""Queues of jobs: what they hold, and for administrators of the installation pause, resume, drain and limits."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec
from litestar import get, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody
from litestar.types import Guard
from msgspec import UNSET, UnsetType

from outrider.data.db import Role
from outrider.data.runtime import Runtime
from outrider.domain.jobs import queues
from outrider.domain.jobs.queues import MOST_AT_ONCE, Queue
from outrider.domain.jobs.stats import Depth
from outrider.interfaces.api.job_figures import JobFigures
from outrider.interfaces.api.paging import Page
from outrider.interfaces.auth import Principal, needs, needs_installation_admin

_CONTROL: list[Guard] = [needs("viewer", "jobs:write"), needs_installation_admin]
AtOnce = Annotated[int, msgspec.Meta(ge=1, le=MOST_AT_ONCE)]


class QueueOut(msgspec.Struct):
    """A queue over all tenants. `counts`: jobs per state, of ended ones those of the last 24 hours.

    concurrency: jobs at once over all processes (null: no limit); worker_concurrency: in one process (null: the
    setting OUTRIDER_QUEUE_CONCURRENCY).
    """

    name: str
    concurrency: int | None
    worker_concurrency: int | None
    is_paused: bool
    paused_at: datetime | None
    paused_by: str | None
    pause_reason: str | None
    is_closed: bool
    closed_at: datetime | None
    closed_by: str | None
    close_reason: str | None
    counts: dict[str, int]
    oldest_age_s: float


class WhyIn(msgspec.Struct, forbid_unknown_fields=True):
    """Why; kept with the queue and in the audit log."""

    reason: Annotated[str, msgspec.Meta(max_length=500)] = ""


class ConcurrencyIn(msgspec.Struct, forbid_unknown_fields=True):
    """Limits of a queue; what is not named stays, null takes a limit away."""

    concurrency: AtOnce | UnsetType | None = UNSET
    worker_concurrency: AtOnce | UnsetType | None = UNSET


@get("/queues", guards=[needs("viewer", "queue:read")])
async def listed(principal: NamedDependency[Principal], job_figures: NamedDependency[JobFigures]) -> Page[QueueOut]:
    """List the queues with what they hold [S3-16]."""
    reading = await job_figures.needed()
    return Page([_told(depth, principal) for depth in reading.depths])


@post("/queues/{name:str}/pause", status_code=200, guards=_CONTROL)
async def paused(
    name: FromPath[str], data: JSONBody[WhyIn], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> Queue:
    """Begin no more jobs of a queue; what is being run goes on, what waits stays."""
    async with runtime.db.uow(Role.ENGINE) as uow:
        return await queues.pause(uow, principal.actor, name, data.reason)


@post("/queues/{name:str}/resume", status_code=200, guards=_CONTROL)
async def resumed(
    name: FromPath[str], data: JSONBody[WhyIn], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> Queue:
    """Let a queue begin jobs again, and take them again after a drain."""
    async with runtime.db.uow(Role.ENGINE) as uow:
        return await queues.resume(uow, principal.actor, name, data.reason)


@post("/queues/{name:str}/drain", status_code=200, guards=_CONTROL)
async def drained(
    name: FromPath[str], data: JSONBody[WhyIn], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> Queue:
    """Take no new jobs; what waits and what runs goes on. Watch `GET /queues` until nothing runs; `resume` opens it."""
    async with runtime.db.uow(Role.ENGINE) as uow:
        return await queues.close(uow, principal.actor, name, data.reason)


@put("/queues/{name:str}/concurrency", guards=_CONTROL)
async def limited(
    name: FromPath[str],
    data: JSONBody[ConcurrencyIn],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
) -> Queue:
    """Change how many jobs run at once; every process keeps to it within a second."""
    async with runtime.db.uow(Role.ENGINE) as uow:
        before = await queues.get(uow, name)
        return await queues.set_concurrency(
            uow,
            principal.actor,
            name,
            concurrency=before.concurrency if data.concurrency is UNSET else data.concurrency,
            worker_concurrency=(
                before.worker_concurrency if data.worker_concurrency is UNSET else data.worker_concurrency
            ),
        )


def _told(depth: Depth, principal: Principal) -> QueueOut:
    """A queue as this caller may know it: tenants do not learn of the installation's people."""
    queue = depth.queue
    known = msgspec.structs.asdict(queue)
    if not principal.is_installation_admin:
        for person in ("paused_by", "closed_by"):
            known[person] = "installation" if known[person] else None
    return QueueOut(
        **known,
        is_paused=queue.paused_at is not None,
        is_closed=queue.closed_at is not None,
        counts=depth.counts,
        oldest_age_s=round(depth.oldest_s, 1),
    )


ROUTES = [listed, paused, resumed, drained, limited]
