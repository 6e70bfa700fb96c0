"""Firing: planned times become jobs, each once, in the transaction that decides about it; and how their jobs ended.

Owns what happens to a planned time. Who loops is `engine.scheduling`; what time it is says the database.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

import structlog

from outrider.base.errors import OutriderError, Unavailable
from outrider.contracts.actor import Actor
from outrider.contracts.jobs import Jobs
from outrider.data.db import UnitOfWork
from outrider.data.faults import TRANSIENT
from outrider.domain.schedules import misfire, plan, zones
from outrider.domain.schedules.plan import Schedule
from outrider.domain.schedules.rows import SQL
from outrider.domain.schedules.times import Planned

ACTOR = Actor("system", "scheduler")
OVERLAP = "the run before was still going on"
NOBODY = "nothing fired at the time"
LEAPT = "the database's clock leapt over it"
_SETTLED_AT_ONCE = 1_000
_LOOK_AGAIN = timedelta(hours=1)
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Leap:
    """A leap of the database's clock while schedulers were running: nobody was away between the two."""

    before: datetime
    after: datetime

    def covers(self, due: Sequence[Planned]) -> bool:
        """Whether one of the planned times was leapt over."""
        return any(self.before < planned.at <= self.after for planned in due)


async def fire_due(uow: UnitOfWork, jobs: Jobs, *, limit: int, leap: Leap | None = None) -> int:
    """Decide about every planned time that has come, of at most `limit` schedules, every tenant's.

    Gives:   how many schedules were looked at; one that fails is noted with its reason and holds up no other.
    Raises:  Unavailable, nothing done; safe to repeat.
    """
    rows = await SQL.schedules_due.many(uow.raw, limit)
    now: datetime = await SQL.clock.value(uow.raw)
    for row in rows:
        schedule = plan.of_row(row)
        mine = replace(uow, tenant_id=schedule.tenant_id)
        try:
            async with uow.savepoint():
                await fire(mine, jobs, schedule, now, leap)
        except Unavailable:
            raise
        except TRANSIENT:  # passes by itself: nothing is decided, the next round does it
            raise
        except Exception as error:  # noqa: BLE001 - one schedule that cannot be fired must not hold up the others
            code = error.code if isinstance(error, OutriderError) else type(error).__name__
            _log.error("schedule_failed", schedule=str(schedule.id), name=schedule.name, code=code, exc_info=error)
            await _give_up(mine, schedule, now, f"could not be fired: {code}")
    return len(rows)


async def fire(uow: UnitOfWork, jobs: Jobs, schedule: Schedule, now: datetime, leap: Leap | None = None) -> None:
    """Decide about the planned times of one schedule that have come; its row is locked.

    Source:  bad inputs R48, R53; faults F21, F79; S0-81, S0-85
    """
    due = plan.come(schedule, now)
    is_leap = leap is not None and leap.covers(due)
    verdict = misfire.judge(due, now, schedule.misfire, grace=schedule.grace, is_clock_jump=is_leap)
    if verdict.missed:
        reason = LEAPT if is_leap else NOBODY
        moments = [planned.at for planned in verdict.missed]
        await SQL.runs_missed.many(uow.raw, schedule.tenant_id, schedule.id, moments, reason, ACTOR.name)
    problem: str | None = None
    for position, planned in enumerate(verdict.run):
        is_late = planned.at in verdict.late
        if position == 0:
            problem = await _run_planned(uow, jobs, schedule, planned, is_late=is_late)
        else:
            await _add(uow, schedule, planned.at, "waiting", is_late=is_late, reason=None)
    if due:
        await _plan_after(uow, schedule, due[-1].at, due[-1].wall, problem)
    else:  # new rules of the zone have moved the time
        await _plan_after(uow, schedule, schedule.handled_at, schedule.handled_wall, schedule.problem)


async def busy(uow: UnitOfWork, schedule: Schedule) -> tuple[UUID | None, int]:
    """The job of a schedule that is going on, if any, and how many runs wait for it. Its row must be locked."""
    row = await SQL.schedule_busy.one(uow.raw, schedule.tenant_id, schedule.id)
    assert row is not None  # noqa: S101 - a SELECT without FROM gives one row
    if row["job_id"] is None and row["has_unsettled"]:
        await settle(uow, schedule)
    return row["job_id"], row["waiting_count"]


async def start(uow: UnitOfWork, jobs: Jobs, schedule: Schedule, run_id: UUID, planned_at: datetime) -> str | None:
    """Make a recorded run a job, in this transaction. Gives what is wrong when the job was refused, which is noted."""
    try:
        made = await jobs.enqueue(
            uow, ACTOR, schedule.job_type, schedule.arguments,
            priority=schedule.priority, schedule_id=schedule.id, planned_at=planned_at,
        )  # fmt: skip
    except Unavailable:
        raise
    except OutriderError as error:
        reason = f"the job was refused: {error.message}"[:500]
        _log.warning("schedule_refused", schedule=str(schedule.id), name=schedule.name, code=error.code)
        await SQL.run_not_started.run(uow.raw, schedule.tenant_id, run_id, reason)
        return reason
    await SQL.run_enqueued.run(uow.raw, schedule.tenant_id, run_id, made.id)
    return None


async def settle(uow: UnitOfWork, schedule: Schedule | None = None) -> int:
    """Take over how jobs ended into the record of runs: of one schedule, or of all (engine role).

    Gives:   how many. A run that succeeded makes up for the planned times missed before it.
    """
    tenant_id, schedule_id = (schedule.tenant_id, schedule.id) if schedule else (None, None)
    ended = await SQL.runs_settle.many(uow.raw, tenant_id, schedule_id, _SETTLED_AT_ONCE)
    for row in ended:
        if row["state"] == "succeeded":
            await SQL.runs_made_up.run(uow.raw, row["tenant_id"], row["schedule_id"], row["id"], row["planned_at"])
    return len(ended)


async def waiting(uow: UnitOfWork, *, limit: int) -> list[tuple[UUID, UUID]]:
    """Tenants and schedules whose turn it is to start a run that waits."""
    return [(row["tenant_id"], row["schedule_id"]) for row in await SQL.schedules_waiting.many(uow.raw, limit)]


async def start_waiting(uow: UnitOfWork, jobs: Jobs, schedule_id: UUID) -> bool:
    """Start the run of a schedule that waits longest, if nothing of it is going on. The unit of work has its tenant."""
    row = await SQL.schedule_lock.one(uow.raw, uow.tenant, schedule_id)
    if row is None:
        return False
    schedule = plan.of_row(row)
    job_id, _ = await busy(uow, schedule)
    run = await SQL.run_first_waiting.one(uow.raw, uow.tenant, schedule_id)
    if job_id is not None or run is None:
        return False
    problem = await start(uow, jobs, schedule, run["id"], run["planned_at"])
    return problem is None


async def plan_again(uow: UnitOfWork, *, limit: int) -> int:
    """Plan schedules anew whose next time was found with older rules of the time zones than this process has.

    Gives:   how many. What was handled stays handled, so no local day gets a second run [F81, R47].
    """
    rules = zones.rules_version()
    rows = await SQL.schedules_stale.many(uow.raw, rules, limit)
    for row in rows:
        schedule = plan.of_row(row)
        await _plan_after(uow, schedule, schedule.handled_at, schedule.handled_wall, schedule.problem)
    return len(rows)


async def _run_planned(
    uow: UnitOfWork, jobs: Jobs, schedule: Schedule, planned: Planned, *, is_late: bool
) -> str | None:
    """Run a planned time, or record that it had to wait or was skipped because the run before is still going on."""
    job_id, waiting_count = await busy(uow, schedule)
    if job_id is not None or waiting_count:
        state, reason = ("waiting", None) if schedule.misfire == "all" else ("skipped", OVERLAP)
        await _add(uow, schedule, planned.at, state, is_late=is_late, reason=reason)
        return None
    run_id = await _add(uow, schedule, planned.at, "waiting", is_late=is_late, reason=None)
    if run_id is None:  # another scheduler had it already
        return None
    return await start(uow, jobs, schedule, run_id, planned.at)


async def _add(
    uow: UnitOfWork, schedule: Schedule, at: datetime, state: str, *, is_late: bool, reason: str | None
) -> UUID | None:
    found: UUID | None = await SQL.run_add.value(
        uow.raw, schedule.tenant_id, schedule.id, at, "scheduled", state, is_late, reason, ACTOR.name
    )
    return found


async def _plan_after(
    uow: UnitOfWork, schedule: Schedule, at: datetime, wall: datetime | None, problem: str | None
) -> None:
    kept = None if problem == plan.ZONE_MISSING else problem
    following = plan.plan(schedule, after=at, wall=wall, problem=kept)
    await SQL.schedule_plan.run(uow.raw, schedule.tenant_id, schedule.id, *following.columns())


async def _give_up(uow: UnitOfWork, schedule: Schedule, now: datetime, problem: str) -> None:
    """Go on with the planned times after now; the one that could not be fired is on record as missed."""
    missed = [schedule.next_at or now]
    await SQL.runs_missed.many(uow.raw, schedule.tenant_id, schedule.id, missed, problem, ACTOR.name)
    try:
        following = plan.plan(schedule, after=now, problem=problem)
    except (OutriderError, ArithmeticError, ValueError):  # not even its next time can be told: looked at again, shown
        following = replace(plan.unplanned(schedule, now + _LOOK_AGAIN), problem=problem)
    await SQL.schedule_plan.run(uow.raw, schedule.tenant_id, schedule.id, *following.columns())
