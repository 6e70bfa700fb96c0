"""Retention of jobs: those that ended long ago go, with their history; open ones never."""

from __future__ import annotations

from outrider.data.db import UnitOfWork
from outrider.domain.jobs.rows import RUNS, SQL

KEEP_RUNS_S = 60
"""Ended runs of DBOS: the jobs know their results."""


async def prune(uow: UnitOfWork, *, keep_days: int, keep_failed_days: int, keep_workers_days: int, bite: int) -> int:
    """Drop what is past its time, at most a bite (engine role). Gives how many jobs went."""
    await RUNS.workers_forget.run(uow.raw, keep_workers_days)
    return await SQL.jobs_purge.run(uow.raw, keep_days, keep_failed_days, bite)


async def sweep_runs(uow: UnitOfWork, bite: int) -> int:
    """Drop ended runs, at most a bite. Gives how many."""
    return int(await RUNS.runs_sweep.value(uow.raw, KEEP_RUNS_S, bite))
