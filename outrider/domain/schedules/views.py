"""What is shown of schedules and their runs, and what is given to make one. Pure data, no rules."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

Name = Annotated[str, Meta(max_length=100)]
CronText = Annotated[str, Meta(description="Five fields: minute, hour, day of month, month, day of week.")]
Zone = Annotated[str, Meta(description="A name of the IANA time zone database, such as Europe/Berlin.")]
Misfire = Literal["once", "all", "skip"]
WhenBusy = Literal["refuse", "queue"]


class NewSchedule(msgspec.Struct, forbid_unknown_fields=True):
    """A schedule to be made.

    job_type   which job; `outrider plugins` lists them
    cron       five fields: minute, hour, day of month, month, day of week
    timezone   an IANA name; the expression is read in its local time
    misfire    planned times that passed while nothing fired: `once` runs the latest, `all` each, `skip` none
    grace_s    later than this after the planned time counts as missed
    jitter_s   each schedule fires up to this much after its planned time, always by the same amount; spreads load
    """

    name: Name
    job_type: Name
    cron: CronText
    timezone: Zone
    arguments: dict[str, Any] = {}
    misfire: Misfire = "once"
    priority: Annotated[int, Meta(ge=0, le=9)] = 5
    grace_s: Annotated[int, Meta(ge=30, le=86_400)] = 60
    jitter_s: Annotated[int, Meta(ge=0, le=3_600)] = 10
    starts_at: datetime | None = None
    ends_at: datetime | None = None


class ScheduleChange(msgspec.Struct, forbid_unknown_fields=True):
    """What to change of a schedule; what is absent stays."""

    name: Name | UnsetType = UNSET
    cron: CronText | UnsetType = UNSET
    timezone: Zone | UnsetType = UNSET
    arguments: dict[str, Any] | UnsetType = UNSET
    misfire: Misfire | UnsetType = UNSET
    priority: Annotated[int, Meta(ge=0, le=9)] | UnsetType = UNSET
    grace_s: Annotated[int, Meta(ge=30, le=86_400)] | UnsetType = UNSET
    jitter_s: Annotated[int, Meta(ge=0, le=3_600)] | UnsetType = UNSET
    starts_at: datetime | UnsetType | None = UNSET
    ends_at: datetime | UnsetType | None = UNSET


class PlannedView(msgspec.Struct, frozen=True):
    """A planned time, in UTC and as a clock in the schedule's zone shows it."""

    at: datetime
    local: str


class RunView(msgspec.Struct, frozen=True):
    """A planned time or a run by hand, and what became of it.

    trigger  `scheduled` or `manual`
    state    `missed` and `skipped` never became a job; `waiting` becomes one when the run before ends; else the job's
    outcome  the same in words: `missed, later run by hand`, `succeeded, late` …
    """

    id: UUID
    planned_at: datetime
    planned_local: str
    trigger: str
    state: str
    outcome: str
    is_late: bool
    job_id: UUID | None
    reason: str | None
    actor: str
    started_at: datetime | None
    finished_at: datetime | None


class ScheduleView(msgspec.Struct, frozen=True):
    """A schedule: when it runs, when it runs next (in UTC and local), how the last run went, what was missed.

    state  paused, ended, running, overdue (should have fired and did not) or waiting for its next time
    missed_count  planned times that nobody ran and nobody made up for, those just overdue included
    problem  why it needs a look although it goes on: its zone has left the time zone database, its job could not start
    """

    id: UUID
    name: str
    job_type: str
    arguments: dict[str, Any]
    cron: str
    meaning: str
    timezone: str
    misfire: str
    priority: int
    grace_s: int
    jitter_s: int
    starts_at: datetime | None
    ends_at: datetime | None
    is_installation: bool
    is_standing: bool
    state: str
    next_run: PlannedView | None
    last_run: RunView | None
    missed_count: int
    problem: str | None
    paused_at: datetime | None
    paused_by: str | None
    pause_reason: str | None
    created_by: str
    created_at: datetime
    updated_at: datetime


class ScheduleDetail(msgspec.Struct, frozen=True):
    """A schedule with its next and previous planned times."""

    schedule: ScheduleView
    next_runs: list[PlannedView]
    previous_runs: list[PlannedView]


class Preview(msgspec.Struct, frozen=True):
    """What an expression means in a zone."""

    cron: str
    meaning: str
    timezone: str
    rule: str
    next_runs: list[PlannedView]
    previous_runs: list[PlannedView]
