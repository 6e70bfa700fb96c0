"""A CPU-bound job type: counts in a child process, as fast as it can, until it is told to stop or has counted enough.

API
    JOB     arguments {"rounds": n, "fail": "", "file": ""}; `file` gets the child's pid
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import msgspec

from outrider.base.errors import Refused
from outrider.contracts.jobs import JobContext, JobType


class Arguments(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """How long, and how it ends."""

    rounds: int = 1
    fail: str = ""
    file: str = ""


async def run(context: JobContext, arguments: Arguments) -> Any:
    """Count."""
    if arguments.file:
        Path(arguments.file).write_text(str(os.getpid()), encoding="ascii")  # noqa: ASYNC240 - nothing else runs here
    total = 0
    for at in range(arguments.rounds):
        total += sum(range(1000))
        if at % 1000 == 0:
            await context.progress(at, arguments.rounds, "counting")
    if arguments.fail == "refused":
        raise Refused("no_such_thing", "there is no such thing")
    if arguments.fail == "bug":
        raise LookupError("password=hunter2 of somebody@example.org")
    if arguments.fail == "die":
        os._exit(3)
    if arguments.fail == "chatter":
        sys.stdout.write("this is no answer\n")
        sys.stdout.flush()
    return {"total": total, "ours": sorted(name for name in os.environ if name.startswith("OUTRIDER"))}


JOB = JobType("spin", "Count in a child", "default", run, Arguments, is_cpu_bound=True, max_attempts=1)
