"""CPU-bound work in a process of its own, as its parent sees it: start, progress, result, end.

Owns the pipes and the kill. The child gets JSON and answers JSON, one object a line; it gets no secrets and no
database, and it ends with its parent. What it says is checked, never evaluated.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path
from typing import Any

import structlog

from outrider.base.errors import Broken, Refused, Unavailable
from outrider.contracts.jobs import JobType
from outrider.data.log import clean
from outrider.engine.jobs.context import Context

_CHILD = Path(__file__).with_name("child.py")
_LONGEST_LINE_BYTES = 1024 * 1024
_TERMINATE_S = 1.0
_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "HOME")
_log = structlog.get_logger(__name__)


async def work(job: JobType, context: Context, arguments: str) -> Any:
    """Run a job's work in a child; cancelling this ends the child.

    Takes:   arguments  JSON text, checked against the type
    Raises:  what the child reports: Refused when it is final, else Broken; Unavailable when it died.
    """
    child = await _start()
    try:
        order = {
            "path": sys.path,
            "module": job.run.__module__,
            "key": job.key,
            "arguments": arguments,
            **context.facts(),
        }
        child.stdin.write(json.dumps(order).encode() + b"\n")  # type: ignore[union-attr]  # started with pipes
        return await _listen(child, context)
    finally:
        await asyncio.shield(end(child))


async def _start() -> Process:
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    try:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-B", str(_CHILD),
            stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env=environment, cwd="/", start_new_session=True,
            limit=_LONGEST_LINE_BYTES,
        )  # fmt: skip
    except OSError as error:
        raise Unavailable("no_child", f"no process for the job: {error.strerror}") from error


async def _listen(child: Process, context: Context) -> Any:
    """Read until the child has said how it ended."""
    output = child.stdout
    assert output is not None  # noqa: S101 - started with pipes
    while True:
        try:
            line = await output.readline()
        except ValueError:
            raise Broken("child_talks", "the job's process wrote a line that is too long") from None
        if not line:
            code = await child.wait()
            raise Unavailable("child_died", f"the job's process ended with {code} before its work was done")
        try:
            said: dict[str, Any] = json.loads(line)
            kind = said["kind"]
        except (ValueError, TypeError, KeyError):
            raise Broken("child_talks", "the job's process wrote something that is not JSON") from None
        if kind == "progress":
            await context.progress(int(said["done"]), said["total"], str(said["note"]))
        elif kind == "result":
            return said["result"]
        else:
            _log.info("child_failed", run=str(context.run), trace=clean(str(said.get("trace", ""))))
            error = Refused if said.get("is_final") else Broken
            raise error(str(said["code"]), str(said["message"]))


async def end(child: Process) -> None:
    """End a child and everything it started; gone when this returns."""
    for number, patience_s in ((signal.SIGTERM, _TERMINATE_S), (signal.SIGKILL, None)):
        if child.returncode is not None and number == signal.SIGTERM:
            continue  # it has ended; what it started and left behind goes with SIGKILL
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, number)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(child.wait(), patience_s)
    if child.stdin is not None:
        child.stdin.close()
