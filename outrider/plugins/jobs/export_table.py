"""Write a tenant's contacts, memberships, do-not-contact entries or proof of consent into a CSV file."""

from __future__ import annotations

from uuid import UUID

import msgspec

from outrider.contracts.jobs import JobContext, JobType
from outrider.domain.people import making


class Arguments(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Which export."""

    export_id: UUID


async def _work(context: JobContext, arguments: Arguments) -> dict[str, object]:
    """Write the file. Gives how many rows are in it."""
    return {"row_count": await making.write_for(context, arguments.export_id, "rows")}


JOB = JobType(
    key="export_table",
    title="Export contacts, lists, suppressions or consents as CSV",
    queue="export",
    run=_work,
    arguments=Arguments,
    timeout_s=4 * 3600,
    max_attempts=5,
)
