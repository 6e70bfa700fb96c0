"""What is wrong with schedules right now: those that did not fire, those that go on with a problem."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from outrider.data.db import UnitOfWork
from outrider.domain.schedules import show
from outrider.domain.schedules.rows import SQL

_MOST = 100


class Trouble(msgspec.Struct, frozen=True):
    """A schedule that needs a look: it is late by `late_s`, or `problem` says what is the matter."""

    tenant_id: UUID
    id: UUID
    name: str
    job_type: str
    late_s: float
    problem: str | None


class Figures(msgspec.Struct, frozen=True):
    """Counts over every tenant. `missed_count`: planned times nobody ran and nobody made up for."""

    schedule_count: int
    paused_count: int
    overdue_count: int
    problem_count: int
    missed_count: int


async def clock(uow: UnitOfWork) -> datetime:
    """What time it is for schedules and for everything else that is due: the database's."""
    now: datetime = await SQL.clock.value(uow.raw)
    return now


async def troubles(uow: UnitOfWork) -> list[Trouble]:
    """Schedules that should have fired and did not, and those with a problem; at most 100 (engine role)."""
    rows = await SQL.schedules_overdue.many(uow.raw, show.OVERDUE.total_seconds(), _MOST)
    return [_trouble(row) for row in rows]


async def figures(uow: UnitOfWork) -> Figures:
    """The counts for metrics (engine role)."""
    row = await SQL.schedules_figures.one(uow.raw, show.OVERDUE.total_seconds())
    assert row is not None  # noqa: S101 - an aggregate gives one row
    return Figures(**dict(row))


def _trouble(row: Mapping[str, Any]) -> Trouble:
    late_s = round(max(0.0, row["late_s"] or 0.0), 1)
    return Trouble(row["tenant_id"], row["id"], row["name"], row["job_type"], late_s, row["problem"])
