"""Jobs run in a test's own process by the product's executor, without DBOS: quick, where the claim is not the point.

API
    async with running_jobs(runtime):     jobs that wait are begun, cancelled ones told, until the block ends
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

from outrider.data.db import Role
from outrider.data.runtime import Runtime
from outrider.engine.jobs.execution import Executor

_POLL_S = 0.02
_WAITING = """
SELECT tenant_id::text || '/' || id::text || '/' || run::text AS run_id, id,
       cancel_requested_at IS NOT NULL AS is_cancelled
FROM jobs WHERE state IN ('enqueued', 'processing')
"""


@asynccontextmanager
async def running_jobs(runtime: Runtime) -> AsyncIterator[None]:
    """Run jobs until the block ends; what is under way then goes back into its queue."""
    executor = Executor(runtime, runtime.jobs.types, uuid4())
    begun: dict[str, asyncio.Task[None]] = {}

    async def work() -> None:
        while True:
            async with runtime.db.uow(Role.ENGINE) as uow:
                rows = await uow.raw.fetch(_WAITING)
            for row in rows:
                if row["run_id"] not in begun:
                    begun[row["run_id"]] = asyncio.create_task(executor.run(row["run_id"]))
                if row["is_cancelled"]:
                    executor.cancel(row["id"])
            await asyncio.sleep(_POLL_S)

    working = asyncio.create_task(work())
    try:
        yield
    finally:
        working.cancel()
        executor.hand_back()
        await asyncio.gather(working, *begun.values(), return_exceptions=True)
