"""Write the head of each audit chain to the log once a day, so that a tail that was cut off shows."""

from __future__ import annotations

from outrider.contracts.jobs import JobContext, JobType, NoArguments
from outrider.contracts.schedules import Standing
from outrider.engine.maintenance.upkeep import Upkeep


async def _work(context: JobContext, _arguments: NoArguments) -> dict[str, int]:
    """Give how many chains there are."""
    return {"chains": await Upkeep(context.runtime).log_audit_heads()}


JOB = JobType(
    key="audit_heads",
    title="Log the heads of the audit chains",
    queue="maintenance",
    run=_work,
    timeout_s=600,
    is_installation=True,
    standing=Standing("3 0 * * *"),
)
