"""Making, changing and deleting schedules, and letting them rest: every change is checked, planned and audited."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import orjson

from outrider.base.errors import Refused
from outrider.base.ids import NIL
from outrider.contracts.actor import Actor
from outrider.contracts.jobs import JobType
from outrider.data.db import UnitOfWork
from outrider.domain.audit.append import append
from outrider.domain.jobs.enqueue import encode
from outrider.domain.limits.reasons import NOT_GIVEN, clean_reason
from outrider.domain.schedules import plan, read, show
from outrider.domain.schedules.cron import Cron, parse
from outrider.domain.schedules.plan import Schedule
from outrider.domain.schedules.rows import SQL
from outrider.domain.schedules.views import NewSchedule, ScheduleChange, ScheduleView

MOST = 1_000
"""Schedules of one tenant."""
_FIRST_YEAR, _LAST_YEAR = 1970, 2199
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9 ._:-]{0,98}[A-Za-z0-9])?")


async def create(
    uow: UnitOfWork,
    types: Mapping[str, JobType],
    actor: Actor,
    new: NewSchedule,
    *,
    least_gap_minutes: int,
    is_standing: bool = False,
) -> ScheduleView:
    """Make a schedule; its first planned time lies after now.

    Takes:   uow    of the tenant, or of NIL for the installation's own
             types  the job types of this installation
             least_gap_minutes  how close two planned times may be
    Raises:  Refused(invalid_name, name_taken 409, unknown_job_type, invalid_arguments, invalid_cron, never_runs,
             too_frequent, unknown_timezone, offset_required, out_of_range, too_many_schedules).
    Source:  bad inputs R04 to R56
    """
    name = _check_name(new.name)
    cron = _check_cron(new.cron, least_gap_minutes)
    show.check_zone(new.timezone)
    arguments = check_arguments(types, new.job_type, new.arguments, is_installation=uow.tenant == NIL)
    _check_bounds(new.starts_at, new.ends_at)
    if await SQL.schedules_count.value(uow.raw, uow.tenant) >= MOST:
        raise Refused("too_many_schedules", f"a tenant has at most {MOST} schedules")
    now = await SQL.clock.value(uow.raw)
    made = await SQL.schedule_add.one(
        uow.raw, uow.tenant, name, new.job_type, arguments, new.priority, cron.text, new.timezone, new.misfire,
        new.grace_s, new.jitter_s, new.starts_at, new.ends_at, is_standing, now, None, None, 0, "", actor.name,
    )  # fmt: skip
    if made is None:
        raise _taken()
    schedule = await read.locked(uow, made["id"])
    await _replan(uow, schedule, now)
    details = {**msgspec.to_builtins(new), "cron": cron.text}
    await append(uow, actor, action="schedule.create", target=("schedule", str(schedule.id)), details=details)
    return await read.view(uow, schedule.id)


async def update(
    uow: UnitOfWork,
    types: Mapping[str, JobType],
    actor: Actor,
    schedule_id: UUID,
    change: ScheduleChange,
    *,
    least_gap_minutes: int,
    reason: str = NOT_GIVEN,
) -> ScheduleView:
    """Change a schedule. A change of expression, zone or bounds counts from now on: nothing that passed comes again.

    Raises:  as `create`; Refused(not_found, 404).
    """
    old = await read.locked(uow, schedule_id)
    given: dict[str, Any] = {
        name: value for name in change.__struct_fields__ if (value := getattr(change, name)) is not msgspec.UNSET
    }
    if "name" in given:
        given["name"] = _check_name(given["name"])
    if "cron" in given:
        given["cron"] = _check_cron(given["cron"], 1 if old.is_standing else least_gap_minutes).text
    if "timezone" in given:
        show.check_zone(given["timezone"])
    if "arguments" in given:
        check_arguments(types, old.job_type, given["arguments"], is_installation=old.is_installation)
    new = _changed(old, given)
    _check_bounds(new.starts_at, new.ends_at)
    try:
        await SQL.schedule_change.run(
            uow.raw, uow.tenant, schedule_id, new.name, orjson.dumps(new.arguments).decode(), new.priority, new.cron,
            new.timezone, new.misfire, new.grace_s, new.jitter_s, new.starts_at, new.ends_at,
        )  # fmt: skip
    except asyncpg.UniqueViolationError:
        raise _taken() from None
    if given.keys() & {"cron", "timezone", "starts_at", "ends_at", "jitter_s"}:
        await _replan(uow, new, await SQL.clock.value(uow.raw))
    details = {name: [_plain(getattr(old, name)), _plain(value)] for name, value in given.items()}
    target = ("schedule", str(schedule_id))
    await append(uow, actor, action="schedule.update", target=target, reason=clean_reason(reason), details=details)
    return await read.view(uow, schedule_id)


async def delete(uow: UnitOfWork, actor: Actor, schedule_id: UUID, *, reason: str = NOT_GIVEN) -> None:
    """Delete a schedule with its history; jobs it enqueued stay and run.

    Raises:  Refused(not_found, 404); Refused(is_standing, 409) for those that come with Outrider: pause them instead.
    """
    old = await read.locked(uow, schedule_id)
    if old.is_standing:
        raise Refused("is_standing", "comes with Outrider and is only paused, not deleted", field="/id", status=409)
    await SQL.schedule_delete.run(uow.raw, uow.tenant, schedule_id)
    details = {"name": old.name, "job_type": old.job_type, "cron": old.cron, "timezone": old.timezone}
    target = ("schedule", str(schedule_id))
    await append(uow, actor, action="schedule.delete", target=target, reason=clean_reason(reason), details=details)


async def pause(uow: UnitOfWork, actor: Actor, schedule_id: UUID, *, reason: str = NOT_GIVEN) -> ScheduleView:
    """Let a schedule rest; a run that goes on ends by itself. Pausing twice is no error."""
    old = await read.locked(uow, schedule_id)
    if old.paused_at is None:
        await SQL.schedule_pause.run(uow.raw, uow.tenant, schedule_id, actor.name, clean_reason(reason))
    target = ("schedule", str(schedule_id))
    details = {"name": old.name, "changed": old.paused_at is None}
    await append(uow, actor, action="schedule.pause", target=target, reason=clean_reason(reason), details=details)
    return await read.view(uow, schedule_id)


async def resume(uow: UnitOfWork, actor: Actor, schedule_id: UUID, *, reason: str = NOT_GIVEN) -> ScheduleView:
    """Let a schedule go on with its next planned time; what passed while it rested was not missed."""
    old = await read.locked(uow, schedule_id)
    if old.paused_at is not None:
        await SQL.schedule_resume.run(uow.raw, uow.tenant, schedule_id)
        await _replan(uow, old, await SQL.clock.value(uow.raw))
    target = ("schedule", str(schedule_id))
    details = {"name": old.name, "changed": old.paused_at is not None, "paused_reason": old.pause_reason}
    await append(uow, actor, action="schedule.resume", target=target, reason=clean_reason(reason), details=details)
    return await read.view(uow, schedule_id)


def check_arguments(types: Mapping[str, JobType], key: str, given: Mapping[str, Any], *, is_installation: bool) -> str:
    """The arguments of a job type as JSON.

    Raises:  Refused(unknown_job_type) also for a type that only the installation may run; Refused(invalid_arguments).
    """
    found = types.get(key)
    if found is None or (found.is_installation and not is_installation):
        allowed = [each.key for each in types.values() if is_installation or not each.is_installation]
        raise Refused("unknown_job_type", f"must be one of {', '.join(allowed) or 'none'}", field="/job_type")
    return encode(found, given)


async def _replan(uow: UnitOfWork, schedule: Schedule, now: datetime) -> None:
    """Plan from now on; what has passed is decided."""
    await SQL.schedule_plan.run(uow.raw, schedule.tenant_id, schedule.id, *plan.plan(schedule, after=now).columns())


def _check_name(text: str) -> str:
    plain = text.strip()
    if not _NAME.fullmatch(plain):
        raise Refused(
            "invalid_name", "has 1 to 100 letters, digits, blanks and . _ : - (a letter or digit at both ends)",
            field="/name",
        )  # fmt: skip
    return plain


def _check_cron(text: str, least_gap_minutes: int) -> Cron:
    cron = parse(text)
    if cron.least_gap_minutes() < least_gap_minutes:
        raise Refused("too_frequent", f"runs may be no closer than {least_gap_minutes} minutes", field="/cron")
    return cron


def _check_bounds(starts_at: datetime | None, ends_at: datetime | None) -> None:
    for field, moment in (("/starts_at", starts_at), ("/ends_at", ends_at)):
        if moment is not None and moment.tzinfo is None:
            raise Refused("offset_required", "needs an offset, for example 2026-11-20T09:00:00Z", field=field)
        if moment is not None and not _FIRST_YEAR <= moment.year <= _LAST_YEAR:
            raise Refused("out_of_range", f"must be in the years {_FIRST_YEAR} to {_LAST_YEAR}", field=field)
    if starts_at is not None and ends_at is not None and ends_at <= starts_at:
        raise Refused("out_of_range", "must be later than starts_at", field="/ends_at")


def _changed(old: Schedule, given: Mapping[str, Any]) -> Schedule:
    return Schedule(**{**{name: getattr(old, name) for name in Schedule.__dataclass_fields__}, **given})


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _taken() -> Refused:
    return Refused("name_taken", "another schedule has this name", field="/name", status=409)
