"""Bring imports to their end whose job ended otherwise, and remove files that no import needs any more."""

from __future__ import annotations

from outrider.contracts.jobs import JobContext, JobType, NoArguments
from outrider.contracts.schedules import Standing
from outrider.engine.maintenance import imports


async def _work(context: JobContext, _arguments: NoArguments) -> dict[str, int]:
    """Give how many imports are not at their end."""
    return {"unfinished": await imports.settle(context.runtime)}


JOB = JobType(
    key="clean_files",
    title="Settle imports left behind and remove files nobody needs",
    queue="maintenance",
    run=_work,
    timeout_s=1800,
    is_installation=True,
    standing=Standing("27 * * * *"),
)
