"""A job that does nothing; it says how long it waited. Imports little: it is loaded into the processes under test."""

from __future__ import annotations

import time

import msgspec

from outrider.contracts.jobs import JobContext, JobType

QUEUE = "default"


class Arguments(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """When it was added, on the machine's clock."""

    at_ms: float


async def _work(_context: JobContext, arguments: Arguments) -> float:
    return time.time() * 1000 - arguments.at_ms


JOB = JobType("nothing", "Do nothing", QUEUE, _work, Arguments)
