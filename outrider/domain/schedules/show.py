"""Schedules and runs as people see them: in UTC and local time, with every planned time accounted for.

Owns the words for what became of a run; pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

from outrider.domain.schedules import plan, times, zones
from outrider.domain.schedules.cron import Cron
from outrider.domain.schedules.misfire import MOST_RECORDED
from outrider.domain.schedules.plan import Schedule
from outrider.domain.schedules.times import Planned
from outrider.domain.schedules.views import PlannedView, Preview, RunView, ScheduleDetail, ScheduleView

SHOWN = 5
"""Planned times shown before and after now."""
OVERDUE = timedelta(seconds=45)
"""A schedule that has not fired so long after it was due did not fire; to be seen within a minute."""
BY_HOUR = "runs whenever the clock shows its minutes: a day of 25 hours has one more, one of 23 one less"
BY_DAY = "runs once per local day at each time: one that the clock skips right after the gap, one shown twice once"
_OPEN = frozenset({"scheduled", "enqueued", "processing", "waiting"})
_MADE_UP = {"manual": "missed, later run by hand", "scheduled": "missed, made up for by a later run"}


def local(moment: datetime, zone: tzinfo) -> str:
    """A moment as a clock in the zone shows it, with its offset."""
    return moment.astimezone(zone).isoformat(timespec="seconds")


def planned_view(moment: datetime, zone: tzinfo) -> PlannedView:
    """A planned time in both."""
    return PlannedView(moment.astimezone(UTC), local(moment, zone))


def preview(cron: Cron, timezone: str, zone: tzinfo, now: datetime) -> Preview:
    """What an expression means around a moment."""
    return Preview(
        cron=cron.text,
        meaning=cron.meaning,
        timezone=timezone,
        rule=BY_DAY if cron.names_hours else BY_HOUR,
        next_runs=_views(times.upcoming(cron, zone, now, SHOWN), zone),
        previous_runs=_views(times.previous(cron, zone, now, SHOWN), zone),
    )


def run_view(row: Mapping[str, Any], zone: tzinfo) -> RunView:
    """A run from a row with the columns `run_…`."""
    return RunView(
        id=row["run_id"],
        planned_at=row["run_planned_at"],
        planned_local=local(row["run_planned_at"], zone),
        trigger=row["run_trigger"],
        state=row["run_state"],
        outcome=_outcome(row),
        is_late=row["run_is_late"],
        job_id=row["run_job_id"],
        reason=row["run_reason"],
        actor=row["run_actor"],
        started_at=row["run_started_at"],
        finished_at=row["run_finished_at"],
    )


def schedule_view(row: Mapping[str, Any]) -> ScheduleView:
    """A schedule from a row of `schedules_page`."""
    schedule, now = plan.of_row(row), row["now"]
    zone, missing = plan.zone_of(schedule)
    last = run_view(row, zone) if row["run_id"] is not None else None
    overdue = overdue_count(schedule, now)
    return ScheduleView(
        id=schedule.id,
        name=schedule.name,
        job_type=schedule.job_type,
        arguments=schedule.arguments,
        cron=schedule.cron,
        meaning=plan.read(schedule.cron).meaning,
        timezone=schedule.timezone,
        misfire=schedule.misfire,
        priority=schedule.priority,
        grace_s=schedule.grace_s,
        jitter_s=schedule.jitter_s,
        starts_at=schedule.starts_at,
        ends_at=schedule.ends_at,
        is_installation=schedule.is_installation,
        is_standing=schedule.is_standing,
        state=_state(schedule, last, overdue),
        next_run=planned_view(schedule.next_at, zone) if schedule.next_at else None,
        last_run=last,
        missed_count=row["missed_count"] + overdue,
        problem=schedule.problem or missing,
        paused_at=schedule.paused_at,
        paused_by=schedule.paused_by,
        pause_reason=schedule.pause_reason,
        created_by=schedule.created_by,
        created_at=schedule.created_at,
        updated_at=schedule.updated_at,
    )


def detail(row: Mapping[str, Any]) -> ScheduleDetail:
    """A schedule with the planned times around now."""
    schedule, now = plan.of_row(row), row["now"]
    zone, _ = plan.zone_of(schedule)
    cron = plan.read(schedule.cron)
    begin = max(now, schedule.starts_at - timedelta(microseconds=1)) if schedule.starts_at else now
    coming = [] if schedule.paused_at or schedule.next_at is None else times.upcoming(cron, zone, begin, SHOWN)
    return ScheduleDetail(
        schedule_view(row),
        _views([each for each in coming if schedule.ends_at is None or each.at <= schedule.ends_at], zone),
        _views(times.previous(cron, zone, now, SHOWN), zone),
    )


def overdue_count(schedule: Schedule, now: datetime) -> int:
    """Planned times that have passed without anybody firing, because no scheduler runs; MOST_RECORDED at most."""
    if schedule.paused_at is not None or schedule.due_at is None or now - schedule.due_at < OVERDUE:
        return 0
    return min(len(plan.come(schedule, now)), MOST_RECORDED)


def check_zone(name: str, *, field: str = "/timezone") -> tzinfo:
    """A zone that exists, loaded. Raises Refused(unknown_timezone)."""
    return zones.load(zones.check(name, field=field)) or zones.fixed(0)


def _views(planned: list[Planned], zone: tzinfo) -> list[PlannedView]:
    return [planned_view(each.at, zone) for each in planned]


def _state(schedule: Schedule, last: RunView | None, overdue: int) -> str:
    if last is not None and last.state in _OPEN:
        return "running"
    if schedule.paused_at is not None:
        return "paused"
    if schedule.next_at is None:
        return "ended"
    return "overdue" if overdue else "waiting"


def _outcome(row: Mapping[str, Any]) -> str:
    state = str(row["run_state"])
    if state == "missed":
        return _MADE_UP.get(row["run_made_up_by"] or "", "missed")
    by_hand = ", by hand" if row["run_trigger"] == "manual" else ""
    return f"{state}{by_hand}{', late' if row['run_is_late'] else ''}"
