"""Looking at schedules and their runs; and what an expression would mean, before one is made."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from outrider.base.errors import Refused
from outrider.data.db import UnitOfWork
from outrider.domain.schedules import plan, show
from outrider.domain.schedules.cron import parse
from outrider.domain.schedules.plan import Schedule
from outrider.domain.schedules.rows import SQL
from outrider.domain.schedules.views import Preview, RunView, ScheduleDetail, ScheduleView

RUN_STATES = ("waiting", "enqueued", "succeeded", "failed", "deleted", "missed", "skipped")


async def listed(uow: UnitOfWork, *, limit: int, after: str = "") -> list[ScheduleView]:
    """The schedules of the unit of work's tenant (NIL: the installation's), by name."""
    return [show.schedule_view(row) for row in await SQL.schedules_page.many(uow.raw, uow.tenant, after, None, limit)]


async def get(uow: UnitOfWork, schedule_id: UUID) -> ScheduleDetail:
    """One schedule with its next and previous planned times.

    Raises:  Refused(not_found, 404).
    """
    row = await SQL.schedules_page.one(uow.raw, uow.tenant, "", schedule_id, 1)
    if row is None:
        raise _unknown()
    return show.detail(row)


async def view(uow: UnitOfWork, schedule_id: UUID) -> ScheduleView:
    """One schedule. Raises Refused(not_found, 404)."""
    return (await get(uow, schedule_id)).schedule


async def named(uow: UnitOfWork, name: str) -> UUID:
    """The id of the schedule with this name. Raises Refused(not_found, 404)."""
    row = await SQL.schedule_named.one(uow.raw, uow.tenant, name)
    if row is None:
        raise _unknown()
    found: UUID = row["id"]
    return found


async def locked(uow: UnitOfWork, schedule_id: UUID) -> Schedule:
    """One schedule, kept from everybody else until the transaction ends. Raises Refused(not_found, 404)."""
    row = await SQL.schedule_lock.one(uow.raw, uow.tenant, schedule_id)
    if row is None:
        raise _unknown()
    return plan.of_row(row)


async def runs(
    uow: UnitOfWork,
    schedule_id: UUID,
    *,
    limit: int,
    before: tuple[datetime, UUID] | None = None,
    state: str | None = None,
) -> list[RunView]:
    """The history of a schedule, latest planned time first.

    Takes:   state  one of RUN_STATES as recorded; before  planned time and id of the last run seen
    Raises:  Refused(not_found, 404), Refused(unknown_state).
    """
    if state is not None and state not in RUN_STATES:
        raise Refused("unknown_state", f"must be one of {', '.join(RUN_STATES)}", field="?state")
    row = await SQL.schedule_get.one(uow.raw, uow.tenant, schedule_id)
    if row is None:
        raise _unknown()
    zone, _ = plan.zone_of(plan.of_row(row))
    at, run_id = before or (None, None)
    found = await SQL.runs_page.many(uow.raw, uow.tenant, schedule_id, at, run_id, state, limit)
    return [show.run_view(each, zone) for each in found]


async def preview(uow: UnitOfWork, cron: str, timezone: str) -> Preview:
    """What an expression means in a zone, from now on.

    Raises:  Refused(invalid_cron, never_runs, unknown_timezone).
    """
    read, zone = parse(cron), show.check_zone(timezone)
    return show.preview(read, timezone, zone, await SQL.clock.value(uow.raw))


def _unknown() -> Refused:
    return Refused("not_found", "no such schedule", field="/id", status=404)
