"""Schedules on a real database without anybody running jobs: time goes as the test says, jobs end as it says.

API
    open_timetable(url) -> async context manager of Timetable
        .app() / .engine(tenant)                     units of work
        .make(name, cron, …) -> ScheduleView         a schedule of the test's job type
        .at(moment)                                  what the database's clock says from now on (it goes on from there)
        .fire() / .settle()                          one round of a scheduler's loops; `.firing` is that scheduler
        .another() -> Firing                         a second scheduler on the same database
        .runs(schedule_id) -> list[RunView]          its history, oldest first
        .jobs(schedule_id) -> list                   planned_at of the jobs that were enqueued for it
        .end(state)                                  every open job ends like that
    leap(url, moment)                                the same clock, for processes of a drill
    KINDS                                            the job types; NOTE is the one that tenants may schedule
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID

import msgspec

from outrider.base.ids import DEFAULT_TENANT
from outrider.base.settings import load
from outrider.contracts.actor import Actor
from outrider.contracts.jobs import JobContext, JobType
from outrider.contracts.schedules import Standing
from outrider.data.db import Database, Role, UnitOfWork
from outrider.data.runtime import Runtime
from outrider.domain.schedules import draft, read
from outrider.domain.schedules.views import NewSchedule, RunView, ScheduleView
from outrider.engine.jobs.port import JobPort
from outrider.engine.scheduling.run import Firing
from tests.kit.postgres import run_sql

ACTOR = Actor("cli", "cli:tester")


class Note(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Arguments of the test's job type."""

    text: str = ""


async def _nothing(_context: JobContext, _arguments: Any) -> None:
    """Nobody runs jobs here."""


NOTE = JobType(key="note", title="Note something", queue="default", run=_nothing, arguments=Note)
SWEEP = JobType(
    key="sweep_all",
    title="Sweep",
    queue="maintenance",
    run=_nothing,
    is_installation=True,
    standing=Standing("5 * * * *"),
)
KINDS = {kind.key: kind for kind in (NOTE, SWEEP)}


@dataclass
class Timetable:
    """One database and one scheduler."""

    url: str
    db: Database
    firing: Firing
    kinds: dict[str, JobType] = field(default_factory=lambda: dict(KINDS))

    def app(self, tenant: UUID = DEFAULT_TENANT) -> AbstractAsyncContextManager[UnitOfWork]:
        return self.db.uow(Role.APP, tenant)

    def engine(self, tenant: UUID | None = None) -> AbstractAsyncContextManager[UnitOfWork]:
        return self.db.uow(Role.ENGINE, tenant)

    def another(self) -> Firing:
        return Firing(_runtime(self.url, self.db), JobPort(self.kinds))

    async def make(self, name: str = "nightly", cron: str = "0 2 * * *", **more: Any) -> ScheduleView:
        new = NewSchedule(
            name=name, job_type="note", cron=cron, timezone=more.pop("timezone", "UTC"),
            jitter_s=more.pop("jitter_s", 0), **more,
        )  # fmt: skip
        async with self.app() as uow:
            return await draft.create(uow, self.kinds, ACTOR, new, least_gap_minutes=1)

    def at(self, moment: str) -> None:
        """Let the clock of schedules leap to `moment`; it goes on from there."""
        leap(self.url, datetime.fromisoformat(moment))

    async def fire(self) -> bool:
        return await self.firing.fire()

    async def settle(self) -> bool:
        return await self.firing.settle()

    async def view(self, schedule_id: UUID) -> ScheduleView:
        async with self.app() as uow:
            return await read.view(uow, schedule_id)

    async def runs(self, schedule_id: UUID) -> list[RunView]:
        async with self.app() as uow:
            return (await read.runs(uow, schedule_id, limit=1000))[::-1]

    async def jobs(self, schedule_id: UUID) -> list[datetime]:
        async with self.engine() as uow:
            rows = await uow.raw.fetch(
                "SELECT planned_at FROM jobs WHERE schedule_id = $1 ORDER BY planned_at, id", schedule_id
            )
        return [row["planned_at"] for row in rows]

    async def end(self, state: str = "succeeded") -> None:
        async with self.engine() as uow:
            await uow.raw.execute(
                "UPDATE jobs SET state = $1, finished_at = outrider_now() "
                "WHERE state IN ('scheduled', 'enqueued', 'processing')",
                state,
            )


def leap(url: str, moment: datetime) -> None:
    """Let the clock by which a database decides about schedules leap to a moment; it goes on from there."""
    ahead_s = (moment - datetime.now(UTC)).total_seconds()
    run_sql(
        url,
        "SET ROLE outrider_owner; CREATE OR REPLACE FUNCTION outrider_now() RETURNS timestamptz "
        f"LANGUAGE sql VOLATILE AS $$ SELECT clock_timestamp() + interval '{ahead_s:.6f} seconds' $$",
    )


@asynccontextmanager
async def open_timetable(url: str) -> AsyncIterator[Timetable]:
    """A pool on a migrated database and one scheduler that does a round when told; closed at the end."""
    db = Database(url, pool_size=4, name="tests")
    try:
        yield Timetable(url, db, Firing(_runtime(url, db), JobPort(KINDS)))
    finally:
        await db.close()


@dataclass
class _Runtime:
    settings: Any
    database_url: str
    db: Database


def _runtime(url: str, db: Database) -> Runtime:
    """As much of a runtime as firing needs."""
    return cast("Runtime", _Runtime(load(), url, db))
