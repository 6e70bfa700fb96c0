"""What a schedule does next: its row as a value, and the next planned time that follows from it.

Owns how expression, zone, jitter, beginning and end come together; never touches the database.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Any
from uuid import UUID

import orjson

from outrider.base.ids import NIL
from outrider.domain.schedules import times, zones
from outrider.domain.schedules.cron import Cron, parse
from outrider.domain.schedules.misfire import MOST_RECORDED
from outrider.domain.schedules.times import Planned

ZONE_MISSING = "its time zone is no longer in the time zone database: it goes on with the last known offset from UTC"


@dataclass(frozen=True, slots=True)
class Schedule:
    """A row of `schedules`."""

    tenant_id: UUID
    id: UUID
    name: str
    job_type: str
    arguments: dict[str, Any]
    priority: int
    cron: str
    timezone: str
    misfire: str
    grace_s: int
    jitter_s: int
    starts_at: datetime | None
    ends_at: datetime | None
    is_standing: bool
    paused_at: datetime | None
    paused_by: str | None
    pause_reason: str | None
    handled_at: datetime
    handled_wall: datetime | None
    next_at: datetime | None
    due_at: datetime | None
    offset_s: int
    rules: str
    problem: str | None
    created_by: str
    created_at: datetime
    updated_at: datetime

    @property
    def is_installation(self) -> bool:
        """Whether it is the installation's own, not a tenant's."""
        return self.tenant_id == NIL

    @property
    def jitter(self) -> timedelta:
        """How much after its planned time this schedule fires: always the same, spread evenly over all schedules."""
        return timedelta(milliseconds=self.id.int % (self.jitter_s * 1000 + 1))

    @property
    def grace(self) -> timedelta:
        """How long after its planned time a run still counts as on time."""
        return timedelta(seconds=self.grace_s) + self.jitter


@dataclass(frozen=True, slots=True)
class Plan:
    """The next planned time; `next_at` None: there is none any more."""

    handled_at: datetime
    handled_wall: datetime | None
    next_at: datetime | None
    due_at: datetime | None
    offset_s: int
    rules: str
    problem: str | None

    def columns(self) -> tuple[Any, ...]:
        """In the order of the statement `schedule_plan`."""
        return (
            self.handled_at, self.handled_wall, self.next_at, self.due_at, self.offset_s, self.rules, self.problem,
        )  # fmt: skip


def of_row(row: Mapping[str, Any]) -> Schedule:
    """A schedule from its row; further columns of the row are left alone."""
    values = {name: row[name] for name in Schedule.__dataclass_fields__}
    arguments = values["arguments"]
    values["arguments"] = orjson.loads(arguments) if isinstance(arguments, str) else arguments
    return Schedule(**values)


def zone_of(schedule: Schedule) -> tuple[tzinfo, str | None]:
    """The schedule's zone, and what is wrong with it: one that has gone is replaced by its last offset, never dropped.

    Source:  bad inputs R46
    """
    zone = zones.load(schedule.timezone)
    if zone is not None:
        return zone, None
    return zones.fixed(schedule.offset_s), ZONE_MISSING


@lru_cache(maxsize=4096)
def read(cron: str) -> Cron:
    """An expression that was accepted before."""
    return parse(cron)


def come(schedule: Schedule, now: datetime) -> list[Planned]:
    """The planned times that have come and were not decided about yet, ascending; the latest MOST_RECORDED at most."""
    cron, (zone, _) = read(schedule.cron), zone_of(schedule)
    until = _least(now, schedule.ends_at)
    found: list[Planned] = []
    for planned in times.runs(cron, zone, schedule.handled_at, schedule.handled_wall):
        if planned.at > until:
            break
        if len(found) == MOST_RECORDED:  # away for long: look back from now instead
            found = times.previous(cron, zone, until, MOST_RECORDED)
            break
        found.append(planned)
    return [planned for planned in found if _is_open(schedule, planned)]


def plan(schedule: Schedule, *, after: datetime, wall: datetime | None = None, problem: str | None = None) -> Plan:
    """What comes after everything up to `after` was decided about.

    Takes:   wall  the local time that was decided about last, so that changed rules of the zone do not give it again
    """
    cron, (zone, missing) = read(schedule.cron), zone_of(schedule)
    begin = after
    if schedule.starts_at is not None and schedule.starts_at > after:
        begin = schedule.starts_at - timedelta(microseconds=1)
    found = times.next_run(cron, zone, begin, wall)
    if found is not None and schedule.ends_at is not None and found.at > schedule.ends_at:
        found = None
    next_at = found.at if found else None
    offset = (next_at or after).astimezone(zone).utcoffset() or timedelta(0)
    return Plan(
        handled_at=after,
        handled_wall=wall,
        next_at=next_at,
        due_at=next_at + schedule.jitter if next_at else None,
        offset_s=int(offset.total_seconds()),
        rules=zones.rules_version(),
        problem=problem or missing,
    )


def unplanned(schedule: Schedule, due_at: datetime) -> Plan:
    """What stays of a schedule whose next time cannot be told: it comes up again at `due_at`."""
    return Plan(
        schedule.handled_at, schedule.handled_wall, schedule.next_at, due_at, schedule.offset_s, schedule.rules, None
    )


def _is_open(schedule: Schedule, planned: Planned) -> bool:
    """Whether nobody has decided about a planned time yet."""
    if planned.at <= schedule.handled_at or (schedule.starts_at is not None and planned.at < schedule.starts_at):
        return False
    by_wall = read(schedule.cron).names_hours and schedule.handled_wall is not None
    return not by_wall or schedule.handled_wall is None or planned.wall > schedule.handled_wall


def _least(moment: datetime, bound: datetime | None) -> datetime:
    return moment.astimezone(UTC) if bound is None else min(moment, bound).astimezone(UTC)
