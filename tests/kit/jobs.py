"""A scheduler on this event loop with job types of its own, and what tests ask of it.

API
    workshop(url, folder, **settings) -> async context manager of Workshop
        .running()                     a whole Scheduler until the block ends (one at a time: DBOS is one per process)
        .enqueue(key, arguments, …)    a job of the default tenant; gives its id
        .job(id) / .words(id)          the job; the words of its history
        .until(id, *states)            wait until it is in one of these states; gives it
        .app() / .engine(tenant)       units of work
        .types                         key -> type; add your own before `running()`
    job_type(key, run, **more) -> JobType
    silent(workshop, seconds)          every worker's heartbeat is that old now
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec

from outrider.base.ids import DEFAULT_TENANT
from outrider.contracts.actor import Actor
from outrider.contracts.jobs import JobContext, JobType
from outrider.data.db import Role, UnitOfWork
from outrider.data.runtime import Runtime
from outrider.domain.jobs import search
from outrider.domain.jobs.views import Job
from outrider.engine.jobs.port import JobPort
from outrider.engine.jobs.run import Scheduler, SchedulerOptions
from outrider.engine.loop import Loop
from tests.kit import spin
from tests.kit.api import runtime_for

TESTER = Actor("user", "tester@example.com")
BOUND_S = 120.0


class AnyArguments(msgspec.Struct, frozen=True):
    """Whatever the test says."""

    n: int = 0
    text: str = ""


def job_type(key: str, run: Callable[[JobContext, Any], Awaitable[Any]], **more: Any) -> JobType:
    """A type with quick retries."""
    return JobType(
        key,
        f"Test {key}",
        more.pop("queue", "default"),
        run,
        AnyArguments,
        **{"retry_first_s": 0.01, "retry_most_s": 0.01, **more},
    )


async def _echo(context: JobContext, arguments: AnyArguments) -> Any:
    return {"n": arguments.n, "text": arguments.text, "attempt": context.attempt, "by": context.created_by}


@dataclass(slots=True)
class Workshop:
    """Pools, types and questions."""

    runtime: Runtime
    types: dict[str, JobType]

    @asynccontextmanager
    async def running(self, loops: Sequence[Loop] = ()) -> AsyncIterator[Scheduler]:
        """Run a scheduler, with further loops, until the block ends; a scheduler that broke fails the test."""
        stop, up = asyncio.Event(), asyncio.Event()
        scheduler = Scheduler(self.runtime, SchedulerOptions(health_port=None), loops)
        task = asyncio.create_task(scheduler.run(stop, lambda _url: up.set()))
        try:
            async with asyncio.timeout(BOUND_S):
                await asyncio.wait({task, asyncio.ensure_future(up.wait())}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                await task
            yield scheduler
        finally:
            stop.set()
            async with asyncio.timeout(BOUND_S):
                await task

    def app(self) -> AbstractAsyncContextManager[UnitOfWork]:
        """A unit of work of the default tenant, as API and command line have it."""
        return self.runtime.db.uow(Role.APP, DEFAULT_TENANT)

    def engine(self, tenant_id: UUID | None = None) -> AbstractAsyncContextManager[UnitOfWork]:
        """A unit of work of the engine's role."""
        return self.runtime.db.uow(Role.ENGINE, tenant_id)

    async def enqueue(self, key: str, arguments: dict[str, Any] | None = None, **options: Any) -> UUID:
        """Enqueue and commit."""
        async with self.app() as uow:
            return (await self.runtime.jobs.enqueue(uow, TESTER, key, arguments, **options)).id

    async def job(self, job_id: UUID) -> Job:
        """The job as it is now."""
        async with self.app() as uow:
            return (await search.get(uow, job_id))[0]

    async def words(self, job_id: UUID) -> list[str]:
        """The states it was in."""
        async with self.app() as uow:
            return [change.state for change in (await search.get(uow, job_id))[1]]

    async def until(self, job_id: UUID, *states: str) -> Job:
        """Wait until the job is in one of the states; the bound ends the test."""
        async with asyncio.timeout(BOUND_S):
            while (job := await self.job(job_id)).state not in states:  # noqa: ASYNC110 - a database sets no event
                await asyncio.sleep(0.01)
        return job

    async def execute(self, sql: str, *arguments: Any) -> None:
        """SQL as the engine's role."""
        async with self.engine() as uow:
            await uow.raw.execute(sql, *arguments)


@asynccontextmanager
async def workshop(url: str, folder: Path, **settings: Any) -> AsyncIterator[Workshop]:
    """Open the pools on a migrated database."""
    quick = {"heartbeat_s": 0.2, "grace_s": 2.0, "queue_concurrency": 5}
    types = {"echo": job_type("echo", _echo), "spin": spin.JOB}
    runtime = replace(runtime_for(url, data_dir=folder, **{**quick, **settings}), jobs=JobPort(types))
    try:
        yield Workshop(runtime, types)
    finally:
        await runtime.db.close()


async def silent(shop: Workshop, seconds: float) -> None:
    """Let every worker be silent for so long."""
    await shop.execute("UPDATE job_workers SET heartbeat_at = now() - $1 * interval '1 second'", seconds)
