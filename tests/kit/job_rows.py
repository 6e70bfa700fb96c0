"""Jobs in any state, without a process that runs them.

API
    add(uow, …) -> UUID             a job of the uow's tenant, enqueued as the product does it, then set to a state
    worker(uow, running=…) -> UUID  a live process that runs jobs, as its row says
    KIND                            the type of these jobs: queue `report`, no arguments checked
    state_of(url, job_id)           its state and reason
    at(url, work)                   run `work(uow)` of the engine role on a database, from a test without a loop
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar
from uuid import UUID, uuid4

import msgspec

from outrider.base.ids import DEFAULT_TENANT
from outrider.contracts.jobs import JobContext, JobType
from outrider.data.db import Database, Role, UnitOfWork
from outrider.domain.jobs.enqueue import enqueue
from tests.kit.audience import ACTOR
from tests.kit.postgres import run_apart

T = TypeVar("T")


class Anything(msgspec.Struct, frozen=True):
    """Arguments of a job that nobody runs."""

    campaign_id: str = ""
    n: int = 0


async def _never(context: JobContext, arguments: Anything) -> None:
    del context, arguments


KIND = JobType("weekly_report", "Weekly report", "report", _never, arguments=Anything)
_SET = """
WITH changed AS (
  UPDATE jobs SET state = $3::text, error = $4, error_code = CASE WHEN $4::text IS NOT NULL THEN 'broken' END,
         changes = 2, attempt = 1,
         started_at = CASE WHEN $3 <> 'scheduled' THEN now() - interval '90 seconds' END,
         finished_at = CASE WHEN $3 IN ('failed', 'succeeded', 'deleted') THEN now() END
  WHERE tenant_id = $1 AND id = $2 RETURNING run
)
INSERT INTO job_states (tenant_id, job_id, seq, state, reason, actor)
SELECT $1, $2, 2, $3, '', 'worker' FROM changed
"""
_RUN = """
UPDATE jobs SET run_token = gen_random_uuid(), worker_id = $3, deadline_at = now() + interval '1 hour',
       progress_done = 500, progress_total = 2000, progress_from = 0,
       progress_since = now() - interval '50 seconds', progress_at = now()
WHERE tenant_id = $1 AND id = $2
"""


async def add(
    uow: UnitOfWork,
    *,
    state: str = "failed",
    kind: JobType = KIND,
    queue: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    error: str | None = None,
    worker_id: UUID | None = None,
    **more: Any,
) -> UUID:
    """One job; `error` is given to failed ones unless named."""
    made = await enqueue(uow, ACTOR, kind, arguments, queue=queue, **more)
    if state != "enqueued":
        why = error or ("the sums do not add up" if state == "failed" else None)
        await uow.raw.execute(_SET, uow.tenant, made.id, state, why)
    if state == "processing":
        await uow.raw.execute(_RUN, uow.tenant, made.id, worker_id)
    return made.id


async def worker(uow: UnitOfWork, *, running: tuple[str, ...] = ()) -> UUID:
    """A process that was heard of just now."""
    worker_id = uuid4()
    await uow.raw.execute(
        "INSERT INTO job_workers (id, host, place, pid, types, queues, running) "
        "VALUES ($1, 'here', 'there', 1, $2, (SELECT array_agg(name) FROM job_queues), $3)",
        worker_id,
        [KIND.key],
        list(running),
    )
    return worker_id


def at(url: str, work: Callable[[UnitOfWork], Awaitable[T]], *, tenant_id: UUID = DEFAULT_TENANT) -> T:
    """What `work` gives, committed."""

    async def apart() -> T:
        db = Database(url, pool_size=1, name="tests")
        try:
            async with db.uow(Role.ENGINE, tenant_id) as uow:
                return await work(uow)
        finally:
            await db.close()

    return run_apart(apart())


def state_of(url: str, job_id: UUID) -> tuple[str, str]:
    """State and reason of a job."""

    async def ask(uow: UnitOfWork) -> tuple[str, str]:
        row = await uow.raw.fetchrow("SELECT state, reason FROM jobs WHERE id = $1", job_id)
        return row["state"], row["reason"]

    return at(url, ask)
