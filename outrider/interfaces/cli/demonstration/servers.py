"""The processes of the demonstration: the capture mail server and `outrider up`, in a folder of their own.

Owns starting them with settings of their own and ending them, however the demonstration ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Final

from outrider.base.errors import Unavailable

_READY: Final = b"ready: "
_START_S: Final = 120.0
_STOP_S: Final = 90.0


@contextmanager
def folder(given: Path | None, *, keep: bool) -> Iterator[Path]:
    """The demonstration's folder: a temporary one that goes away with a success, or the given one."""
    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        yield given.absolute()
        return
    made = Path(tempfile.mkdtemp(prefix="outrider-demo-"))
    if os.geteuid() == 0:
        made.chmod(0o711)  # the embedded database runs as somebody else, who must get through
    is_done = False
    try:
        yield made
        is_done = True
    finally:
        if is_done and not keep:
            shutil.rmtree(made, ignore_errors=True)


def settings(home: Path) -> dict[str, str]:
    """The environment of every process: none of the caller's settings, nothing of another installation."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OUTRIDER_")}
    return {
        **kept,
        "OUTRIDER_DATA_DIR": str(home),
        "OUTRIDER_ENVIRONMENT": "demo",
        "OUTRIDER_API_PORT": "0",
        "OUTRIDER_ALLOW_LOCALHOST_LINKS": "true",
        "OUTRIDER_EGRESS_ALLOW": json.dumps(["127.0.0.0/8"]),
        "OUTRIDER_RETRY_FIRST_S": "0.5",
        "OUTRIDER_RETRY_MOST_S": "5",
        "OUTRIDER_TRACKING_SOON_S": "0",  # nobody waits for readers: they open a letter as soon as it is there
        "OUTRIDER_TRACKING_WAIT_S": "0.5",
        "OUTRIDER_LOG_FORMAT": "json",
    }


@asynccontextmanager
async def started(name: str, arguments: list[str], environment: dict[str, str], log: Path) -> AsyncIterator[str]:
    """Run `outrider …` for the time of the block.

    Gives:   what its `ready:` line said. Its log is a file; when this process dies, it stops by itself (lifeline).
    Raises:  Unavailable naming the log when it does not get ready.
    """
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "outrider", *arguments, "--lifeline",
            stdin=PIPE, stdout=PIPE, stderr=output, env=environment, start_new_session=True,
        )  # fmt: skip
    reading: asyncio.Task[None] | None = None
    try:
        where = await _ready(process, name, log)
        reading = asyncio.create_task(_drain(process))
        yield where
    finally:
        await _end(process)
        if reading is not None:
            reading.cancel()


async def _ready(process: Process, name: str, log: Path) -> str:
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    try:
        async with asyncio.timeout(_START_S):
            while line := await process.stdout.readline():
                if line.startswith(_READY):
                    return line.removeprefix(_READY).decode().strip()
    except TimeoutError:
        pass
    raise Unavailable("demo_not_started", f"{name} did not start: {_last_line(log)} (see {log})")


def _last_line(log: Path) -> str:
    try:
        return (log.read_text(encoding="utf-8", errors="replace").splitlines() or ["nothing logged"])[-1][:300]
    except OSError as error:
        return str(error.strerror)


async def _drain(process: Process) -> None:
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    while await process.stdout.read(65536):
        pass


async def _end(process: Process) -> None:
    """Ask it to stop in order; kill it when it does not."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(_STOP_S):
                await process.wait()
        except (TimeoutError, asyncio.CancelledError):
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise
