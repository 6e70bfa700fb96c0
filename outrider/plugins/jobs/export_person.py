"""Write everything about a person into one file, to be fetched while it lasts."""

from __future__ import annotations

from uuid import UUID

import msgspec

from outrider.contracts.jobs import JobContext, JobType
from outrider.domain.people import making


class Arguments(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Which export."""

    export_id: UUID


async def _work(context: JobContext, arguments: Arguments) -> dict[str, object]:
    """Write the file. Gives how many messages are in it."""
    return {"message_count": await making.write_for(context, arguments.export_id, "messages")}


JOB = JobType(
    key="export_person",
    title="Export everything about a person",
    queue="export",
    run=_work,
    arguments=Arguments,
    timeout_s=4 * 3600,
    max_attempts=5,
)
