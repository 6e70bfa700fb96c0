"""Drop what is past its time: keys, sessions, rollups, imports, contents, runs of schedules, audit entries."""

from __future__ import annotations

from outrider.contracts.jobs import JobContext, JobType, NoArguments
from outrider.contracts.schedules import Standing
from outrider.engine.maintenance.upkeep import Upkeep


async def _work(context: JobContext, _arguments: NoArguments) -> dict[str, int]:
    """Give the rows dropped per table."""

    async def done(count: int, table: str) -> None:
        await context.progress(count, note=table)

    return await Upkeep(context.runtime).retention(done)


JOB = JobType(
    key="retention",
    title="Drop what is past its retention, table by table",
    queue="maintenance",
    run=_work,
    timeout_s=3600,
    is_installation=True,
    standing=Standing("17 * * * *"),
)
