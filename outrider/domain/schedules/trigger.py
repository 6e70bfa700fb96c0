"""Trigger now: a run by hand, never beside another one of the same schedule."""

from __future__ import annotations

from uuid import UUID

from outrider.base.errors import Broken, Refused
from outrider.contracts.actor import Actor
from outrider.contracts.jobs import Jobs
from outrider.data.db import UnitOfWork
from outrider.domain.audit.append import append
from outrider.domain.limits.reasons import NOT_GIVEN, clean_reason
from outrider.domain.schedules import fire, plan, read, show
from outrider.domain.schedules.rows import SQL
from outrider.domain.schedules.views import RunView


async def trigger(
    uow: UnitOfWork, jobs: Jobs, actor: Actor, schedule_id: UUID, *, when_busy: str, reason: str = NOT_GIVEN
) -> RunView:
    """Run a schedule's job now, paused or not; its planned times stay as they are.

    Takes:   when_busy  while a run is going on: `refuse`, or `queue` one to follow it
    Gives:   the run: `enqueued`, or `waiting` for the one before. When it has succeeded, planned times missed before it
             count as made up for by hand.
    Raises:  Refused(not_found, 404); Refused(already_running, 409) naming the job; Refused(already_waiting, 409);
             Refused(job_refused, 409) when the job cannot be enqueued.
    Source:  S0-27, S0-85
    """
    reason = clean_reason(reason)
    schedule = await read.locked(uow, schedule_id)
    job_id, waiting_count = await fire.busy(uow, schedule)
    is_busy = job_id is not None or waiting_count > 0
    if is_busy and when_busy != "queue":
        message = f"a run is going on (job {job_id}); give when_busy=queue to let one follow it"
        raise Refused("already_running", message, field="/when_busy", status=409)
    if waiting_count:
        raise Refused("already_waiting", "a run is waiting already", field="/when_busy", status=409)
    now = await SQL.clock.value(uow.raw)
    is_late = False
    run_id = await SQL.run_add.value(
        uow.raw, schedule.tenant_id, schedule.id, now, "manual", "waiting", is_late, _kept(reason), actor.name
    )
    if not is_busy:
        problem = await fire.start(uow, jobs, schedule, run_id, now)
        if problem is not None:
            raise Refused("job_refused", problem, status=409)
    details = {"name": schedule.name, "run_id": str(run_id), "is_queued": is_busy}
    target = ("schedule", str(schedule.id))
    await append(uow, actor, action="schedule.trigger", target=target, reason=reason, details=details)
    zone, _ = plan.zone_of(schedule)
    for row in await SQL.runs_page.many(uow.raw, uow.tenant, schedule.id, None, None, None, 10):
        if row["run_id"] == run_id:
            return show.run_view(row, zone)
    raise Broken("run_lost", "a run that was just recorded is not there")


def _kept(reason: str) -> str | None:
    return None if reason == NOT_GIVEN else reason
