"""Look once a day whether what must hold still holds; fails with what it found, so that it is seen and counted."""

from __future__ import annotations

from outrider.base.errors import Refused
from outrider.contracts.jobs import JobContext, JobType, NoArguments
from outrider.contracts.schedules import Standing
from outrider.engine.maintenance.checkup import checkup


async def _work(context: JobContext, _arguments: NoArguments) -> dict[str, int]:
    """Check everything.

    Raises:  Refused(health_findings) with one line per check that found something; it is not tried again.
    """
    found = await checkup(context.runtime, context.progress)
    if found:
        lines = (f"{each.check} ({each.count}): {each.example}" for each in found)
        raise Refused("health_findings", " | ".join(lines))
    return {"findings": 0}


JOB = JobType(
    key="health_check",
    title="Daily health check",
    queue="maintenance",
    run=_work,
    timeout_s=3600,
    is_installation=True,
    standing=Standing("30 5 * * *"),
)
