"""Schedules: made, previewed, changed, paused and triggered; what comes next, what ran and what was missed."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec
from litestar import delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from outrider.base.errors import Refused
from outrider.base.ids import NIL, parse_id
from outrider.data.db import Role, UnitOfWork
from outrider.data.runtime import Runtime
from outrider.domain.limits.reasons import NOT_GIVEN
from outrider.domain.schedules import draft, read
from outrider.domain.schedules import trigger as triggering
from outrider.domain.schedules.views import (
    CronText,
    NewSchedule,
    Preview,
    RunView,
    ScheduleChange,
    ScheduleDetail,
    ScheduleView,
    WhenBusy,
    Zone,
)
from outrider.interfaces.api.paging import Cursor, Limit, Page, cursor_of, page, read_cursor
from outrider.interfaces.auth import Principal, needs

Ours = Annotated[bool, QueryParameter(description="The installation's own schedules, for its administrators.")]
RunState = Annotated[
    str | None, QueryParameter(name="state", description=f"Only runs recorded as {', '.join(read.RUN_STATES)}.")
]


class PreviewIn(msgspec.Struct, forbid_unknown_fields=True):
    """An expression and the zone it is read in."""

    cron: CronText
    timezone: Zone


class WhyIn(msgspec.Struct, forbid_unknown_fields=True):
    """Why; kept in the audit log."""

    reason: Annotated[str, msgspec.Meta(max_length=500)] = NOT_GIVEN


class TriggerIn(msgspec.Struct, forbid_unknown_fields=True):
    """What to do while a run is going on (`refuse`, or `queue` one to follow it), and why."""

    when_busy: WhenBusy = "refuse"
    reason: Annotated[str, msgspec.Meta(max_length=500)] = NOT_GIVEN


@get("/schedules", guards=[needs("viewer", "schedules:read")])
async def listed(
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
    is_installation: FromQuery[Ours] = False,  # noqa: FBT002 - a query parameter has a name
    limit: FromQuery[Limit] = 50,
    cursor: FromQuery[Cursor] = "",
) -> Page[ScheduleView]:
    """List schedules by name: expression, zone, next run in UTC and local, last run and its state, missed runs."""
    after = read_cursor(cursor, tuple[str])
    async with _opened(runtime, principal, is_installation=is_installation) as uow:
        items = await read.listed(uow, limit=limit, after=after[0] if after else "")
    return page(items, limit, cursor_of(items[-1].name) if items else "")


@post("/schedules", status_code=201, guards=[needs("operator", "schedules:write")])
async def create(
    data: JSONBody[NewSchedule],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
    is_installation: FromQuery[Ours] = False,  # noqa: FBT002 - a query parameter has a name
) -> ScheduleView:
    """Make a schedule; its first planned time lies after now."""
    async with _opened(runtime, principal, is_installation=is_installation) as uow:
        least = runtime.settings.schedule_least_minutes
        return await draft.create(uow, runtime.jobs.types, principal.actor, data, least_gap_minutes=least)


@post("/schedules/preview", status_code=200, guards=[needs("viewer", "schedules:read")])
async def previewed(
    data: JSONBody[PreviewIn], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> Preview:
    """Say what an expression means: in words, its next and previous five planned times, the rule when clocks change."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await read.preview(uow, data.cron, data.timezone)


@get("/schedules/{schedule_id:str}", guards=[needs("viewer", "schedules:read")])
async def shown(
    schedule_id: FromPath[str],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
    is_installation: FromQuery[Ours] = False,  # noqa: FBT002 - a query parameter has a name
) -> ScheduleDetail:
    """Show one schedule with its next and previous five planned times."""
    async with _opened(runtime, principal, is_installation=is_installation) as uow:
        return await read.get(uow, parse_id(schedule_id, "schedule_id"))


@patch("/schedules/{schedule_id:str}", guards=[needs("operator", "schedules:write")])
async def changed(
    schedule_id: FromPath[str],
    data: JSONBody[ScheduleChange],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
    is_installation: FromQuery[Ours] = False,  # noqa: FBT002 - a query parameter has a name
) -> ScheduleView:
    """Change a schedule; a new expression, zone or bound counts from now on."""
    async with _opened(runtime, principal, is_installation=is_installation) as uow:
        return await draft.update(
            uow, runtime.jobs.types, principal.actor, parse_id(schedule_id, "schedule_id"), data,
            least_gap_minutes=runtime.settings.schedule_least_minutes,
        )  # fmt: skip


@delete("/schedules/{schedule_id:str}", status_code=204, guards=[needs("operator", "schedules:write")])
async def deleted(
    schedule_id: FromPath[str],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
    is_installation: FromQuery[Ours] = False,  # noqa: FBT002 - a query parameter has a name
) -> None:
    """Delete a schedule with its history; jobs it enqueued stay. One that comes with Outrider is only paused."""
    async with _opened(runtime, principal, is_installation=is_installation) as uow:
        await draft.delete(uow, principal.actor, parse_id(schedule_id, "schedule_id"))


@post("/schedules/{schedule_id:str}/pause", status_code=200, guards=[needs("operator", "schedules:write")])
async def paused(
    schedule_id: FromPath[str],
    data: JSONBody[WhyIn],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
    is_installation: FromQuery[Ours] = False,  # noqa: FBT002 - a query parameter has a name
) -> ScheduleView:
    """Let a schedule rest; a run that goes on ends by itself."""
    async with _opened(runtime, principal, is_installation=is_installation) as uow:
        identifier = parse_id(schedule_id, "schedule_id")
        return await draft.pause(uow, principal.actor, identifier, reason=data.reason)


@post("/schedules/{schedule_id:str}/resume", status_code=200, guards=[needs("operator", "schedules:write")])
async def resumed(
    schedule_id: FromPath[str],
    data: JSONBody[WhyIn],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
    is_installation: FromQuery[Ours] = False,  # noqa: FBT002 - a query parameter has a name
) -> ScheduleView:
    """Let a schedule go on with its next planned time; what passed while it rested is not made up for."""
    async with _opened(runtime, principal, is_installation=is_installation) as uow:
        identifier = parse_id(schedule_id, "schedule_id")
        return await draft.resume(uow, principal.actor, identifier, reason=data.reason)


@post("/schedules/{schedule_id:str}/trigger", status_code=202, guards=[needs("operator", "schedules:write")])
async def triggered(
    schedule_id: FromPath[str],
    data: JSONBody[TriggerIn],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
    is_installation: FromQuery[Ours] = False,  # noqa: FBT002 - a query parameter has a name
) -> RunView:
    """Run it now, by hand: 409 while a run is going on, unless one more is to follow it."""
    async with _opened(runtime, principal, is_installation=is_installation) as uow:
        return await triggering.trigger(
            uow, runtime.jobs, principal.actor, parse_id(schedule_id, "schedule_id"),
            when_busy=data.when_busy, reason=data.reason,
        )  # fmt: skip


@get("/schedules/{schedule_id:str}/runs", guards=[needs("viewer", "schedules:read")])
async def runs(
    schedule_id: FromPath[str],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
    in_state: FromQuery[RunState] = None,
    is_installation: FromQuery[Ours] = False,  # noqa: FBT002 - a query parameter has a name
    limit: FromQuery[Limit] = 50,
    cursor: FromQuery[Cursor] = "",
) -> Page[RunView]:
    """List what became of each planned time and each run by hand, latest first; missed ones included."""
    before = read_cursor(cursor, tuple[datetime, UUID])
    async with _opened(runtime, principal, is_installation=is_installation) as uow:
        items = await read.runs(uow, parse_id(schedule_id, "schedule_id"), limit=limit, before=before, state=in_state)
    return page(items, limit, cursor_of(items[-1].planned_at, items[-1].id) if items else "")


def _opened(
    runtime: Runtime, principal: Principal, *, is_installation: bool
) -> AbstractAsyncContextManager[UnitOfWork]:
    """A unit of work on the caller's schedules, or on the installation's own.

    Raises:  Refused(forbidden, 403).
    """
    if not is_installation:
        return runtime.db.uow(Role.APP, principal.tenant_id)
    if not principal.is_installation_admin:
        raise Refused("forbidden", "only administrators of the installation may do this", status=403)
    return runtime.db.uow(Role.ENGINE, NIL)


ROUTES = [listed, create, previewed, shown, changed, deleted, paused, resumed, triggered, runs]
