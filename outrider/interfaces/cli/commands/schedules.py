"""Schedules: see what runs when and what was missed; make, change, pause and trigger them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from cyclopts import App, Parameter

from outrider.base.errors import Refused
from outrider.base.ids import NIL
from outrider.contracts.jobs import Jobs
from outrider.data.db import Role, UnitOfWork
from outrider.domain.schedules import draft, read
from outrider.domain.schedules import trigger as triggering
from outrider.domain.schedules.views import NewSchedule, PlannedView, ScheduleChange, ScheduleView
from outrider.interfaces.cli.confirm import Yes, confirm
from outrider.interfaces.cli.doors import doors
from outrider.interfaces.cli.options import CHANGING, COMMON, Changing, Common, Limit, between, whole_number
from outrider.interfaces.cli.output import Answer, facts, table
from outrider.interfaces.cli.work import Work, note, tenant_of, within

APP = App(name="schedules")

Which = Annotated[str, Parameter(help="The schedule's name or id.")]
Ours = Annotated[
    bool, Parameter(name="--installation", negative="", help="The installation's own schedules: its upkeep.")
]
Misfire = Literal["once", "all", "skip"]
_COLUMNS = ("of", "name", "state", "cron", "timezone", "next_utc", "next_local", "last", "missed_count", "problem")
_RUNS = ("planned_at", "planned_local", "trigger", "outcome", "job_id", "started_at", "finished_at", "reason")


def _number(least: int, most: int, text: str) -> Parameter:
    return Parameter(converter=whole_number, validator=between(least, most), n_tokens=1, help=text)


Priority = Annotated[int | None, _number(0, 9, "0 goes first, 9 last.")]
Grace = Annotated[
    int | None, _number(30, 86_400, "Later than this many seconds after its time a run counts as missed.")
]
Jitter = Annotated[int | None, _number(0, 3_600, "Fires up to this many seconds after its time; spreads load.")]


@APP.command(name="list")
async def list_(*, installation: Ours = False, limit: Limit = 100, options: Common = COMMON) -> Answer:
    """List schedules with the next run in UTC and local time, the last run and what was missed.

    Without --tenant the installation's own are listed too.

    Example: `outrider schedules list`
    """
    async with _looking(options, installation=installation) as uow:
        found = await read.listed(uow, limit=limit)
    if not installation and options.tenant is None:
        async with _looking(options, installation=True) as uow:
            found += await read.listed(uow, limit=limit)
    rows = [msgspec.to_builtins(each) for each in found]
    return Answer(rows, table([_row(each) for each in found], _COLUMNS, empty="no schedules"))


@APP.command
async def show(which: Which, *, installation: Ours = False, options: Common = COMMON) -> Answer:
    """Show one schedule: its next and previous five planned times and its latest runs.

    Example: `outrider schedules show weekly`
    """
    async with _looking(options, installation=installation) as uow:
        found = await _find(uow, which)
        detail = await read.get(uow, found)
        runs = await read.runs(uow, found, limit=10)
    schedule = detail.schedule
    head = {
        **_row(schedule),
        "id": schedule.id,
        "job": schedule.job_type,
        "meaning": schedule.meaning,
        "misfire": schedule.misfire,
        "paused": f"by {schedule.paused_by}: {schedule.pause_reason}" if schedule.paused_at else "no",
    }
    parts = [
        facts(head),
        "next\n" + _times(detail.next_runs),
        "previous\n" + _times(detail.previous_runs),
        "runs\n" + table([msgspec.to_builtins(run) for run in runs], _RUNS, empty="none yet"),
    ]
    return Answer({**msgspec.to_builtins(detail), "runs": msgspec.to_builtins(runs)}, "\n\n".join(parts))


@APP.command
async def runs(
    which: Which,
    *,
    state: str | None = None,
    installation: Ours = False,
    limit: Limit = 50,
    options: Common = COMMON,
) -> Answer:
    """List what became of each planned time and each run by hand, latest first.

    Example: `outrider schedules runs weekly --state missed`

    Parameters
    ----------
    state
        Only runs recorded as waiting, enqueued, succeeded, failed, deleted, missed or skipped.
    """
    async with _looking(options, installation=installation) as uow:
        found = await read.runs(uow, await _find(uow, which), limit=limit, state=state)
    rows: list[dict[str, Any]] = [msgspec.to_builtins(run) for run in found]
    return Answer(rows, table(rows, _RUNS, empty="no runs"))


@APP.command
async def preview(cron: str, *, timezone: str, options: Common = COMMON) -> Answer:
    """Say what an expression means: its next and previous five planned times and the rule when clocks change.

    Example: `outrider schedules preview "0 2 * * MON" --timezone Europe/Istanbul`

    Parameters
    ----------
    cron
        Five fields in quotes: minute, hour, day of month, month, day of week.
    timezone
        An IANA name such as Europe/Berlin.
    """
    async with _looking(options, installation=False) as uow:
        found = await read.preview(uow, cron, timezone)
    head = {"cron": found.cron, "meaning": found.meaning, "timezone": found.timezone, "rule": found.rule}
    parts = [facts(head), "next\n" + _times(found.next_runs), "previous\n" + _times(found.previous_runs)]
    return Answer(msgspec.to_builtins(found), "\n\n".join(parts))


@APP.command
async def create(
    name: str,
    *,
    job: str,
    cron: str,
    timezone: str,
    arguments: str = "{}",
    misfire: Misfire = "once",
    priority: Priority = None,
    grace: Grace = None,
    jitter: Jitter = None,
    starts: str | None = None,
    ends: str | None = None,
    installation: Ours = False,
    options: Changing = CHANGING,
) -> Answer:
    """Make a schedule.

    Example: `outrider schedules create weekly --job health_check --cron "0 2 * * MON" --timezone Europe/Istanbul`

    Parameters
    ----------
    name
        What you call it.
    job
        Key of the job type.
    cron
        Five fields in quotes: minute, hour, day of month, month, day of week.
    timezone
        An IANA name such as Europe/Berlin; the expression is read in its local time.
    arguments
        The job's arguments as a JSON object.
    misfire
        Planned times that passed while nothing fired: once runs the latest, all each, skip none.
    starts
        Not before this moment (RFC 3339 with its offset).
    ends
        Not after this moment.
    """
    new = NewSchedule(
        name=name, job_type=job, cron=cron, timezone=timezone, arguments=_object(arguments), misfire=misfire,
        starts_at=_moment(starts, "--starts"), ends_at=_moment(ends, "--ends"),
    )  # fmt: skip
    for field, value in (("priority", priority), ("grace_s", grace), ("jitter_s", jitter)):
        if value is not None:
            setattr(new, field, value)
    async with _changing(options, installation=installation) as (jobs, work):
        least = doors().settings().schedule_least_minutes
        made = await draft.create(work.uow, jobs.types, work.actor, new, least_gap_minutes=least)
    return _told(made, "made", options)


@APP.command
async def update(
    which: Which,
    *,
    name: str | None = None,
    cron: str | None = None,
    timezone: str | None = None,
    arguments: str | None = None,
    misfire: Misfire | None = None,
    priority: Priority = None,
    grace: Grace = None,
    jitter: Jitter = None,
    installation: Ours = False,
    options: Changing = CHANGING,
) -> Answer:
    """Change a schedule; a new expression or zone counts from now on.

    Example: `outrider schedules update weekly --cron "0 4 * * MON"`

    Parameters
    ----------
    name
        A new name.
    cron
        Five fields in quotes: minute, hour, day of month, month, day of week.
    timezone
        An IANA name such as Europe/Berlin.
    arguments
        The job's arguments as a JSON object.
    misfire
        Planned times that passed while nothing fired: once runs the latest, all each, skip none.
    """
    given = {
        "name": name, "cron": cron, "timezone": timezone, "misfire": misfire, "priority": priority, "grace_s": grace,
        "jitter_s": jitter, "arguments": None if arguments is None else _object(arguments),
    }  # fmt: skip
    change = ScheduleChange(**{field: value for field, value in given.items() if value is not None})  # type: ignore[arg-type]  # each has the type of its field
    async with _changing(options, installation=installation) as (jobs, work):
        found = await _find(work.uow, which)
        least = doors().settings().schedule_least_minutes
        view = await draft.update(
            work.uow, jobs.types, work.actor, found, change, least_gap_minutes=least, reason=options.reason
        )
    return _told(view, "changed", options)


@APP.command
async def delete(which: Which, *, installation: Ours = False, yes: Yes = False, options: Changing = CHANGING) -> Answer:
    """Delete a schedule with its history; its jobs stay.

    Example: `outrider schedules delete weekly`
    """
    if not options.dry_run:
        confirm(f"schedule {which} and its history are deleted", "delete", yes=yes)
    async with _changing(options, installation=installation) as (_, work):
        found = await _find(work.uow, which)
        await draft.delete(work.uow, work.actor, found, reason=options.reason)
    return Answer({"id": str(found)}, note(f"deleted schedule {which}", dry_run=options.dry_run))


@APP.command
async def pause(which: Which, *, installation: Ours = False, options: Changing = CHANGING) -> Answer:
    """Let a schedule rest; a run that goes on ends by itself.

    Example: `outrider schedules pause weekly --reason "holidays"`
    """
    async with _changing(options, installation=installation) as (_, work):
        view = await draft.pause(work.uow, work.actor, await _find(work.uow, which), reason=options.reason)
    return _told(view, "paused", options)


@APP.command
async def resume(which: Which, *, installation: Ours = False, options: Changing = CHANGING) -> Answer:
    """Let a schedule go on with its next planned time.

    Example: `outrider schedules resume weekly`
    """
    async with _changing(options, installation=installation) as (_, work):
        view = await draft.resume(work.uow, work.actor, await _find(work.uow, which), reason=options.reason)
    return _told(view, "resumed", options)


@APP.command
async def trigger(
    which: Which,
    *,
    queue: Annotated[bool, Parameter(negative="", help="While a run is going on: let one follow it.")] = False,
    installation: Ours = False,
    options: Changing = CHANGING,
) -> Answer:
    """Run a schedule's job now; refused while a run of it is going on, unless --queue.

    Example: `outrider schedules trigger weekly`
    """
    async with _changing(options, installation=installation) as (jobs, work):
        found = await _find(work.uow, which)
        when_busy = "queue" if queue else "refuse"
        run = await triggering.trigger(work.uow, jobs, work.actor, found, when_busy=when_busy, reason=options.reason)
    text = f"{which} runs as job {run.job_id}" if run.job_id else f"{which} runs when the run before has ended"
    return Answer(msgspec.to_builtins(run), note(text, dry_run=options.dry_run))


@asynccontextmanager
async def _looking(options: Common, *, installation: bool) -> AsyncIterator[UnitOfWork]:
    async with doors().database() as db:
        if installation:
            async with db.uow(Role.ENGINE, NIL) as uow:
                yield uow
        else:
            async with db.uow(Role.APP, await tenant_of(db, options.tenant)) as uow:
                yield uow


@asynccontextmanager
async def _changing(options: Changing, *, installation: bool) -> AsyncIterator[tuple[Jobs, Work]]:
    async with doors().runtime() as runtime:
        tenant_id = NIL if installation else await tenant_of(runtime.db, options.tenant)
        role = Role.ENGINE if installation else Role.APP
        async with within(runtime.db, tenant_id, role=role, dry_run=options.dry_run, reason=options.reason) as work:
            yield runtime.jobs, work


async def _find(uow: UnitOfWork, which: str) -> UUID:
    """A schedule by id or exact name."""
    try:
        identifier = UUID(which)
    except ValueError:
        return await read.named(uow, which)
    return (await read.view(uow, identifier)).id


def _told(view: ScheduleView, done: str, options: Changing) -> Answer:
    coming = f"; next run {view.next_run.local}" if view.next_run and view.paused_at is None else ""
    return Answer(msgspec.to_builtins(view), note(f"{done} schedule {view.name}{coming}", dry_run=options.dry_run))


def _row(view: ScheduleView) -> dict[str, Any]:
    last = view.last_run
    return {
        "of": "installation" if view.is_installation else "tenant",
        "name": view.name,
        "state": view.state,
        "cron": view.cron,
        "timezone": view.timezone,
        "next_utc": f"{view.next_run.at:%Y-%m-%d %H:%M}Z" if view.next_run else None,
        "next_local": view.next_run.local if view.next_run else None,
        "last": f"{last.planned_local} {last.outcome}" if last else None,
        "missed_count": view.missed_count,
        "problem": view.problem,
    }


def _times(planned: list[PlannedView]) -> str:
    rows = [{"utc": f"{each.at:%Y-%m-%d %H:%M}Z", "local": each.local} for each in planned]
    return table(rows, ("utc", "local"), empty="none")


def _object(text: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        raise Refused("invalid_arguments", "must be a JSON object", field="--arguments") from None


def _moment(text: str | None, field: str) -> datetime | None:
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise Refused("invalid_moment", "must be a moment such as 2027-01-31T00:00:00Z", field=field) from None
