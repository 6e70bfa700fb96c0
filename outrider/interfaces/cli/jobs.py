"""What job commands share: which jobs are meant, and how a job is told.

Owns options and wording; the verbs are the domain's and work on the database, whether API and scheduler run or not.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
from cyclopts import Parameter

from outrider.base.errors import Refused
from outrider.base.ids import NIL, parse_id
from outrider.data.db import Role
from outrider.domain.jobs.search import Filter
from outrider.domain.jobs.states import STATES
from outrider.domain.jobs.views import Job, StateChange
from outrider.domain.jobs.wanted import wanted
from outrider.interfaces.cli.doors import doors
from outrider.interfaces.cli.options import Changing, Common
from outrider.interfaces.cli.output import facts, one_line, table
from outrider.interfaces.cli.work import Work, tenant_of, within

COLUMNS: Final = ("id", "type", "queue", "state", "attempt", "created_at", "duration", "progress", "why")
_LONGEST_WHY: Final = 60

Ours = Annotated[
    bool, Parameter(name="--installation", negative="", help="The installation's own jobs instead of a tenant's.")
]


@Parameter(name="*")
@dataclass(frozen=True)
class Wanted:
    """Which jobs; what is not given is not looked at."""

    state: Annotated[
        list[str] | None,
        Parameter(help=f"Only in this state: {', '.join(STATES)}, or Hangfire's or BullMQ's word. Several times."),
    ] = None
    type: Annotated[list[str] | None, Parameter(help="Only of this type. Several times.")] = None
    queue: Annotated[list[str] | None, Parameter(help="Only of this queue. Several times.")] = None
    argument: Annotated[
        list[str] | None, Parameter(help="Only with this in its arguments: name=value. Several times.")
    ] = None
    text: Annotated[str | None, Parameter(help="Only with this in arguments, error, reason or person.")] = None
    since: Annotated[str | None, Parameter(help="Only enqueued at this moment or later, with its offset.")] = None
    until: Annotated[str | None, Parameter(help="Only enqueued before this moment, with its offset.")] = None

    def filter(self) -> Filter:
        """As the search takes it. Raises Refused naming the option."""
        return wanted(
            states=self.state or (),
            types=self.type or (),
            queues=self.queue or (),
            arguments=self.argument or (),
            text=self.text,
            since=self.since,
            until=self.until,
            prefix="--",
        )

    @property
    def is_empty(self) -> bool:
        """Whether nothing was asked for."""
        return self == WANTED


WANTED: Final = Wanted()


def ids_of(texts: Sequence[str]) -> list[UUID]:
    """Job ids as people give them, each once."""
    return list(dict.fromkeys(parse_id(each, "job") for each in texts))


@asynccontextmanager
async def at_work(options: Common, *, is_installation: bool, dry_run: bool = False) -> AsyncIterator[Work]:
    """A unit of work on a tenant's jobs, or on the installation's own."""
    if is_installation and options.tenant is not None:
        raise Refused("invalid_choice", "give --tenant or --installation, not both", field="--installation")
    async with doors().database() as db:
        tenant_id = NIL if is_installation else await tenant_of(db, options.tenant)
        role = Role.ENGINE if is_installation else Role.APP
        async with within(db, tenant_id, role=role, dry_run=dry_run) as work:
            yield work


def is_tried(options: Common) -> bool:
    """Whether nothing shall be written."""
    return isinstance(options, Changing) and options.dry_run


def rows_of(found: Sequence[Job]) -> list[dict[str, Any]]:
    """Jobs as lines of a table."""
    return [
        {
            "id": job.id,
            "type": job.type,
            "queue": job.queue,
            "state": job.state,
            "attempt": f"{job.attempt}/{job.max_attempts}",
            "created_at": job.created_at,
            "duration": "-" if job.duration_s is None else duration(job.duration_s),
            "progress": progress(job),
            "why": _short(job.error or job.reason),
        }
        for job in found
    ]


def told(job: Job, history: Sequence[StateChange]) -> str:
    """One job with everything that is known about it."""
    head = {
        "id": job.id,
        "type": job.type,
        "queue": f"{job.queue} (priority {job.priority})",
        "state": f"{job.state} (Hangfire {STATES[job.state].hangfire}, BullMQ {STATES[job.state].bullmq})",
        "reason": job.reason or None,
        "attempt": f"{job.attempt} of {job.max_attempts}" + (f", {job.crashes} crash(es)" if job.crashes else ""),
        "enqueued": f"{job.created_at:%Y-%m-%d %H:%M:%S%z} by {job.created_by}",
        "due": job.run_at,
        "started": job.started_at,
        "ends at the latest": job.deadline_at,
        "finished": job.finished_at,
        "duration": None if job.duration_s is None else duration(job.duration_s),
        "progress": progress(job),
        "worker": job.worker_id,
        "cancelling": _cancelling(job),
        "arguments": json.dumps(job.arguments),
        "result": None if job.result is None else json.dumps(job.result),
        "error": None if job.error is None else f"{job.error_code}: {job.error}",
        "schedule": job.schedule_id,
    }
    known = {name: value for name, value in head.items() if value is not None}
    rows = [msgspec.to_builtins(each, builtin_types=(datetime,)) for each in history]
    return facts(known) + "\n\n" + table(rows, ("at", "state", "reason", "actor", "attempt"), empty="no history")


def progress(job: Job) -> str:
    """How far a job is, its rate and when it will be done at that rate."""
    found = job.progress
    if found is None:
        return "-"
    parts = [f"{found.done:,}" if found.total is None else f"{found.done:,} of {found.total:,}"]
    if found.rate_per_s is not None and job.state == "processing":
        parts.append(f"{found.rate_per_s:,.1f}/s")
    if found.finish_at is not None:
        parts.append(f"done about {found.finish_at:%H:%M:%S%z}")
    return ", ".join([*parts, *([found.note] if found.note else [])])


def duration(seconds: float) -> str:
    """A time as people say it."""
    whole = int(seconds)
    if whole < 60:  # noqa: PLR2004 - seconds of a minute
        return f"{seconds:.1f} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def _cancelling(job: Job) -> str | None:
    if job.cancel_requested_at is None:
        return None
    return f"asked for at {job.cancel_requested_at:%H:%M:%S%z} by {job.cancel_by}: {job.cancel_reason}"


def _short(text: str) -> str:
    line = one_line(text.splitlines()[0] if text else "")
    return line if len(line) <= _LONGEST_WHY else line[: _LONGEST_WHY - 1] + "…"
