"""Outrider's own job layer under measurement: jobs of a type that does nothing, run by `outrider scheduler` processes.

Owns how it is driven; the type comes in as a third party's would.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import asyncpg

from bench.kit import ours
from bench.kit.job_peers import Tuning
from bench.kit.nothing import JOB, QUEUE, Arguments
from bench.kit.servers import run
from outrider.base.ids import DEFAULT_TENANT, NIL
from outrider.data.db import Role
from outrider.data.runtime import Runtime
from outrider.domain.jobs import enqueue, queues
from tests.kit.third_party import path_with

_T = TypeVar("_T")
_BATCH = 1000
_POLL_S = 0.02
_BOUND_S = 600.0


class Outrider:
    """See `bench.kit.job_peers.Side`."""

    def __init__(self, name: str, installed: ours.Installation) -> None:
        self.name = name
        self._installed = installed
        path = path_with(installed.data_dir, {"outrider.plugins.jobs": ["nothing = bench.kit.nothing:JOB"]})
        installed.environment["PYTHONPATH"] = os.pathsep.join(filter(None, (path, os.environ.get("PYTHONPATH"))))

    def work_off(self, jobs: int, tuning: Tuning) -> float:
        """See `Side`."""

        async def measure() -> float:
            async with ours.runtime() as made:
                await _pause(made)
                await _fill(made, jobs)
                await asyncio.to_thread(self._installed.database.settle)
                with self._schedulers(tuning):
                    began_s = time.perf_counter()
                    await _resume(made)
                    await self._until_done(jobs)
                    return time.perf_counter() - began_s

        return self._clean(measure())

    def add(self, jobs: int, callers: int) -> float:
        """See `Side`."""

        async def measure() -> float:
            async with ours.runtime(pool_size=callers) as made:
                left = jobs

                async def caller() -> None:
                    nonlocal left
                    while left > 0:
                        left -= 1
                        await _add(made)

                began_s = time.perf_counter()
                await asyncio.gather(*(caller() for _ in range(callers)))
                return time.perf_counter() - began_s

        return self._clean(measure())

    def waits_ms(self, jobs: int, every_ms: float, tuning: Tuning) -> list[float]:
        """See `Side`."""

        async def measure() -> list[float]:
            async with ours.runtime() as made:
                with self._schedulers(tuning):
                    for _ in range(jobs):
                        await _add(made)
                        await asyncio.sleep(every_ms / 1000 * random.uniform(0.5, 1.5))
                    await self._until_done(jobs)
            return [float(row["result"]) for row in await self._rows("SELECT result::text FROM jobs")]

        return self._clean(measure())

    @contextmanager
    def _schedulers(self, tuning: Tuning) -> Iterator[None]:
        settings = {"queue_concurrency": str(tuning.concurrency)}
        with ExitStack() as stack:
            for _ in range(tuning.processes):
                stack.enter_context(self._installed.role("scheduler", **settings))
            yield

    async def _until_done(self, jobs: int) -> None:
        """Wait until so many jobs are recorded as done."""
        give_up_s = time.monotonic() + _BOUND_S
        raw = await asyncpg.connect(self._installed.database.superuser_url)
        try:
            while True:
                counts = {row["state"]: row["n"] for row in await raw.fetch(_COUNTS)}
                if counts.get("succeeded", 0) >= jobs:
                    return
                if counts.get("failed") or time.monotonic() > give_up_s:
                    raise RuntimeError(f"not all of {jobs} jobs are done: {counts}")
                await asyncio.sleep(_POLL_S)
        finally:
            await raw.close()

    async def _rows(self, statement: str) -> list[asyncpg.Record]:
        raw = await asyncpg.connect(self._installed.database.superuser_url)
        try:
            found: list[asyncpg.Record] = await raw.fetch(statement)
            return found
        finally:
            await raw.close()

    def _clean(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run it, and leave no job behind."""
        done = run(work)
        self._installed.database.execute(*_EMPTY)
        return done


_COUNTS = "SELECT state, count(*) AS n FROM jobs WHERE type = 'nothing' GROUP BY state"
_EMPTY = (
    "TRUNCATE jobs, job_states",
    "TRUNCATE outrider_dbos.workflow_status CASCADE",
)


async def _fill(made: Runtime, jobs: int) -> None:
    for first in range(0, jobs, _BATCH):
        many = [Arguments(time.time() * 1000) for _ in range(min(_BATCH, jobs - first))]
        async with made.db.uow(Role.APP, DEFAULT_TENANT) as uow:
            await enqueue.enqueue_many(uow, ours.BENCH, JOB, many)


async def _add(made: Runtime) -> None:
    arguments = Arguments(time.time() * 1000)
    async with made.db.uow(Role.APP, DEFAULT_TENANT) as uow:
        await enqueue.enqueue(uow, ours.BENCH, JOB, arguments)


async def _pause(made: Runtime) -> None:
    async with made.db.uow(Role.ENGINE, NIL) as uow:
        await queues.pause(uow, ours.BENCH, QUEUE, "benchmark")


async def _resume(made: Runtime) -> None:
    async with made.db.uow(Role.ENGINE, NIL) as uow:
        await queues.resume(uow, ours.BENCH, QUEUE, "benchmark")
