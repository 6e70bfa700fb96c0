"""A job as it is shown: its row, its progress with rate and estimated finish, its history. Secrets are cut out."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import orjson

from outrider.data.log import clean


class Progress(msgspec.Struct, frozen=True):
    """How far a job is. `rate_per_s` and `finish_at` are null until they can be known; `at`: when it last said so."""

    done: int
    total: int | None
    note: str
    rate_per_s: float | None
    finish_at: datetime | None
    at: datetime | None


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One job."""

    id: UUID
    type: str
    queue: str
    arguments: Any
    priority: int
    dedup_key: str | None
    state: str
    reason: str
    attempt: int
    max_attempts: int
    crashes: int
    timeout_s: int
    run_at: datetime
    worker_id: UUID | None
    created_by: str
    created_at: datetime
    changed_at: datetime
    started_at: datetime | None
    deadline_at: datetime | None
    finished_at: datetime | None
    duration_s: float | None
    progress: Progress | None
    cancel_requested_at: datetime | None
    cancel_by: str | None
    cancel_reason: str | None
    result: Any
    error_code: str | None
    error: str | None
    schedule_id: UUID | None
    planned_at: datetime | None


class StateChange(msgspec.Struct, frozen=True):
    """A state a job was in; `actor` a person, `worker`, `scheduler` or `reaper`."""

    seq: int
    at: datetime
    state: str
    reason: str
    actor: str
    worker_id: UUID | None
    attempt: int


def job_of(row: Any) -> Job:
    """A row of `job_get` or `job_search` as it is shown."""
    until = row["finished_at"] or (row["seen_at"] if row["state"] == "processing" else None)
    began = row["started_at"]
    same = {
        name: row[name]
        for name in Job.__struct_fields__
        if name not in {"arguments", "result", "progress", "duration_s"}
    }
    return Job(
        **same,
        arguments=clean(orjson.loads(row["arguments"])),
        result=None if row["result"] is None else orjson.loads(row["result"]),
        duration_s=max(0.0, (until - began).total_seconds()) if until and began else None,
        progress=progress_of(row),
    )


def progress_of(row: Any) -> Progress | None:
    """Progress with its rate since the run's first word, and when it ends at that rate."""
    done, total = row["progress_done"], row["progress_total"]
    if done is None:
        return None
    rate = finish_at = None
    since, at = row["progress_since"], row["progress_at"]
    if since is not None and at is not None and at > since:
        rate = max(0.0, (done - row["progress_from"]) / (at - since).total_seconds())
        if total is not None and rate > 0 and row["state"] == "processing":
            finish_at = at + timedelta(seconds=min(max(0.0, (total - done) / rate), 10 * 365 * 86_400))
    return Progress(done, total, row["progress_note"], rate, finish_at, at)


def change_of(row: Any) -> StateChange:
    """A row of `job_history`."""
    return StateChange(**dict(row.items()))
