"""Take a person who was erased from the ledger, its events, contents and files."""

from __future__ import annotations

from uuid import UUID

import msgspec

from outrider.contracts.jobs import JobContext, JobType
from outrider.domain.people import erase


class Arguments(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Which erasure."""

    erasure_id: UUID


async def _work(context: JobContext, arguments: Arguments) -> dict[str, object]:
    """Walk the ledger to its end. Gives how many messages were made anonymous."""
    runtime = context.runtime
    met = 0

    async def progress(count: int) -> None:
        nonlocal met
        met += count
        await context.progress(met, None, "messages")

    count = await erase.finish(runtime.db, runtime.settings, context.tenant_id, arguments.erasure_id, progress)
    return {"message_count": count}


JOB = JobType(
    key="erase_person",
    title="Erase a person from the ledger",
    queue="maintenance",
    run=_work,
    arguments=Arguments,
    timeout_s=12 * 3600,
    max_attempts=50,
)
