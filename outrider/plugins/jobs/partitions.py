"""Make the monthly partitions of the coming months, and drop those past their retention."""

from __future__ import annotations

from outrider.contracts.jobs import JobContext, JobType, NoArguments
from outrider.contracts.schedules import Standing
from outrider.engine.maintenance.upkeep import Upkeep


async def _work(context: JobContext, _arguments: NoArguments) -> dict[str, int]:
    """Give how many partitions were made and how many months dropped."""
    return await Upkeep(context.runtime).partitions()


JOB = JobType(
    key="partitions",
    title="Make partitions ahead, drop months past their retention",
    queue="maintenance",
    run=_work,
    timeout_s=600,
    is_installation=True,
    standing=Standing("7 */6 * * *"),
)
