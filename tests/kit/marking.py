"""A job whose every run leaves marks that nothing can take away: a line in a ledger of its own, a row bound to the run.

API
    JOB, Arguments              registered in processes of a drill as the job type `marking` of a third party
    ledger(folder) -> [Line]    what the processes wrote down, with fsync, before they went on
        what: `began` the run began; `stored` its row is committed; `refused` it was stopped, or is not the run any more
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import NamedTuple

import msgspec

from outrider.contracts.jobs import JobContext, JobType, Superseded
from outrider.data.db import Role

QUEUE = "default"
TABLE = """
CREATE TABLE job_marks (job_id uuid NOT NULL, number int NOT NULL, attempt int NOT NULL, pid int NOT NULL);
GRANT SELECT, INSERT ON job_marks TO outrider_engine;
"""


class Arguments(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Which job, where its ledger is, how long it takes."""

    number: int
    folder: str
    lasts_ms: int = 0


class Line(NamedTuple):
    """One line of the ledger."""

    what: str
    number: int
    pid: int


async def _mark(context: JobContext, arguments: Arguments) -> int:
    _write(arguments, "began")
    try:
        await asyncio.sleep(arguments.lasts_ms / 1000)
        async with context.runtime.db.uow(Role.ENGINE, context.tenant_id) as uow:
            await context.hold(uow)
            await uow.raw.execute(
                "INSERT INTO job_marks (job_id, number, attempt, pid) VALUES ($1, $2, $3, $4)",
                context.job_id, arguments.number, context.attempt, os.getpid(),
            )  # fmt: skip
    except (Superseded, asyncio.CancelledError):
        _write(arguments, "refused")
        raise
    _write(arguments, "stored")
    return arguments.number


JOB = JobType(
    "marking",
    "Leave marks",
    QUEUE,
    _mark,
    Arguments,
    max_attempts=100,
    retry_first_s=0.2,
    retry_most_s=1.0,
    timeout_s=120,
)


def ledger(folder: Path) -> list[Line]:
    """Everything that was written down, process by process."""
    found = []
    for path in sorted(folder.glob("*.marks")):
        for line in path.read_text().splitlines():
            what, number, pid = line.split()
            found.append(Line(what, int(number), int(pid)))
    return found


def _write(arguments: Arguments, what: str) -> None:
    path = Path(arguments.folder) / f"{os.getpid()}.marks"
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(file, f"{what} {arguments.number} {os.getpid()}\n".encode())
        os.fsync(file)
    finally:
        os.close(file)
