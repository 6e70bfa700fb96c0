"""The runbooks' own paths, with their bodies and status words; every one has a successor below /api/v1."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath

from outrider.base.ids import parse_id
from outrider.data.runtime import Runtime
from outrider.domain.jobs.states import STATES
from outrider.domain.limits.reasons import NOT_GIVEN
from outrider.interfaces.api.job_figures import JobFigures
from outrider.interfaces.api.metrics import OPEN_TO_NETWORKS, admit
from outrider.interfaces.api.middleware.entry import Authenticator
from outrider.interfaces.api.v1.switches import SwitchState, switch
from outrider.interfaces.auth import Principal, needs


@post("/tenants/{tenant_id:str}/pause", status_code=200, guards=[needs("operator", "switches:write")])
async def pause(
    tenant_id: FromPath[str], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> SwitchState:
    """Stop all sending of a tenant: session cookie, no body [S1-11]; as `POST /api/v1/switches/pause`."""
    return await switch(
        runtime, principal, "tenant", None, NOT_GIVEN, is_pause=True, tenant_id=parse_id(tenant_id, "tenant_id")
    )


@post("/tenants/{tenant_id:str}/resume", status_code=200, guards=[needs("operator", "switches:write")])
async def resume(
    tenant_id: FromPath[str], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> SwitchState:
    """Let a tenant send again: session cookie, no body [S1-14]; as `POST /api/v1/switches/resume`."""
    return await switch(
        runtime, principal, "tenant", None, NOT_GIVEN, is_pause=False, tenant_id=parse_id(tenant_id, "tenant_id")
    )


class JobQueueStats(msgspec.Struct):
    """One queue of jobs in Hangfire's words."""

    queue: str
    enqueued: int
    processing: int
    scheduled: int
    failed: int
    oldest_age_s: float
    is_paused: bool
    is_closed: bool


class HangfireStats(msgspec.Struct):
    """Workers and jobs over all tenants, in Hangfire's words; ended jobs are those of the last 24 hours.

    servers: live processes that run jobs; silent_servers: those that stopped answering; recurring: schedules;
    stranded: jobs that no live process can run.
    """

    servers: int
    silent_servers: int
    recurring: int
    queues: int
    enqueued: int
    scheduled: int
    processing: int
    succeeded: int
    failed: int
    deleted: int
    stranded: int
    by_queue: list[JobQueueStats]


@get("/hangfire/stats", opt=OPEN_TO_NETWORKS, summary="Job statistics in Hangfire's words")
async def hangfire_stats(
    request: Request[Any, Any, Any],
    runtime: NamedDependency[Runtime],
    authenticator: NamedDependency[Authenticator],
    job_figures: NamedDependency[JobFigures],
) -> HangfireStats:
    """Say how the workers of jobs are [S0-76]; as `GET /api/v1/queues` and `outrider status`."""
    await admit(request, runtime, authenticator, "queue:read")
    reading = await job_figures.needed()
    words = {state.word: reading.total(state.word) for state in STATES.values()}
    alive = len(reading.alive())
    return HangfireStats(
        servers=alive,
        silent_servers=len(reading.workers) - alive,
        recurring=reading.schedules.schedule_count,
        queues=len(reading.depths),
        **words,
        stranded=sum(each.count for each in reading.stranded),
        by_queue=[
            JobQueueStats(
                queue=depth.queue.name,
                enqueued=depth.counts["enqueued"],
                processing=depth.counts["processing"],
                scheduled=depth.counts["scheduled"],
                failed=depth.counts["failed"],
                oldest_age_s=round(depth.oldest_s, 1),
                is_paused=depth.queue.paused_at is not None,
                is_closed=depth.queue.closed_at is not None,
            )
            for depth in reading.depths
        ],
    )


ROUTES = [pause, resume, hangfire_stats]
