"""Operating-system processes of a drill: workers, the API and the capture server, by their real commands, to be killed.

API
    Process.start(command, "worker", folder=…, name=…, at=…)   `python -m outrider …`; ends with this process (lifeline)
        .where                          what its line `ready: …` said, after `.ready()`
        .kill() / .killed()             SIGKILL now / wait until it has killed itself; both assert exit -9
        .freeze() / .thaw()             SIGSTOP, SIGCONT
        await .stands_still(what=…)     wait until it has stopped itself at a failpoint; `.thaw()` lets it go on
        .ask_to_stop() / .ended()       SIGTERM / wait for its end; gives the exit code
        .hits()                         lines of its failpoint log
        await .health()                 what a worker's /health says
    until(question, what=…, bound_s=…)  wait for a condition, with a bound; fails naming `what`
    slowness()                          how much longer than alone on the machine work takes now, for claims about time,
                                        up to a bound
    is_stopped(pid)                     whether SIGSTOP has stopped it
    say(text)                           a figure of a drill, shown with -s and when the test fails
    wait_until(…)                       the same from synchronous code
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.kit.command import Command
from tests.kit.prefork import Forked

BOUND_S = 180.0
"""How long any wait of a drill may take before the drill has failed; no claim is about it."""
_POLL_S = 0.02
_TAIL = 1500
_SPIN_S = 0.2
_MOST_SLOWNESS = 6.0
"""Where work takes longer than that for others, a figure proves nothing any more, and a drill about it fails."""


@dataclass(slots=True)
class Process:
    """One process of the product."""

    name: str
    process: subprocess.Popen[str] | Forked
    log: Path
    hits_path: Path
    where: str = ""

    @classmethod
    def start(cls, command: Command, *arguments: str, folder: Path, name: str, at: str = "") -> Process:
        """Start it.

        Takes:   at: what `OR_FAILPOINT` says; empty: no failpoint is armed.
        """
        log, hits = folder / f"{name}.log", folder / f"{name}.hits"
        armed = {"OR_FAILPOINT": at, "OR_FAILPOINT_LOG": str(hits)} if at else {}
        with log.open("w") as stream:
            process = command.with_(**armed).stay(*arguments, "--lifeline", stdout=stream, stderr=stream)
        return cls(name, process, log, hits)

    async def ready(self) -> Process:
        """Wait for its line `ready: …`."""
        await until(lambda: self._where() is not None or self.process.poll() is not None, what=f"{self.name} ready")
        where = self._where()
        assert where is not None, f"{self.name} ended with {self.process.poll()}: {self.said()}"
        self.where = where
        return self

    def kill(self) -> None:
        """SIGKILL it; asserts that this is what ended it."""
        self.process.kill()
        assert self.process.wait(BOUND_S) == -signal.SIGKILL, self.said()

    async def killed(self, point: str, *, bound_s: float = BOUND_S) -> None:
        """Wait until it has killed itself at a failpoint; asserts the signal and that the point was reached."""
        code = await self.ended(bound_s=bound_s)
        assert code == -signal.SIGKILL, f"{self.name} ended with {code}: {self.said()}"
        assert self.hits()[-1].split()[::2] == [point, "kill"], self.hits()[-3:]

    def freeze(self) -> None:
        """SIGSTOP: it is there, and does nothing."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self.process.send_signal(signal.SIGCONT)

    async def stands_still(self, *, what: str, bound_s: float = BOUND_S) -> None:
        """Wait until it has stopped itself: it says so before, and thawed in between it stops for good."""
        await until(lambda: bool(self.hits()) and is_stopped(self.process.pid), what=what, bound_s=bound_s)

    def ask_to_stop(self) -> None:
        """SIGTERM."""
        self.process.terminate()

    async def ended(self, *, bound_s: float = BOUND_S) -> int:
        """Wait for its end; gives the exit code (negative: the signal)."""
        await until(lambda: self.process.poll() is not None, what=f"the end of {self.name}", bound_s=bound_s)
        return self.process.returncode

    def lives(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def hits(self) -> list[str]:
        """Lines of its failpoint log: name, count, action, pid."""
        return self.hits_path.read_text().splitlines() if self.hits_path.exists() else []

    async def health(self) -> dict[str, Any]:
        """What /health of a worker says, whatever the status."""

        def ask() -> dict[str, Any]:
            opener = urllib.request.build_opener(_AnyStatus)
            with opener.open(f"{self.where}/health", timeout=BOUND_S) as answer:
                found: dict[str, Any] = json.loads(answer.read())
                return found

        return await asyncio.to_thread(ask)

    def said(self) -> str:
        """The end of its log, for messages of failed assertions."""
        return self.log.read_text(errors="replace")[-_TAIL:]

    def end(self) -> None:
        """Make sure that nothing of it is left."""
        if self.lives():
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGKILL)
            self.process.wait(BOUND_S)
        if self.process.stdin is not None:
            self.process.stdin.close()

    def _where(self) -> str | None:
        for line in self.log.read_text(errors="replace").splitlines(keepends=True):
            if line.startswith("ready: ") and line.endswith("\n"):
                return line.removeprefix("ready: ").strip()
        return None


class _AnyStatus(urllib.request.HTTPErrorProcessor):
    """503 is an answer, not an error."""

    def http_response(self, request: Any, response: Any) -> Any:
        return response


async def until(
    question: Callable[[], object | Awaitable[object]], *, what: str, bound_s: float = BOUND_S, poll_s: float = _POLL_S
) -> None:
    """Ask until the answer is true; fails after the bound."""
    give_up_at = time.monotonic() + bound_s
    while True:
        answer = question()
        if inspect.isawaitable(answer):
            answer = await answer
        if answer:
            return
        assert time.monotonic() < give_up_at, f"not within {bound_s:g} s: {what}"
        await asyncio.sleep(poll_s)


def slowness() -> float:
    """Wall time per second of processor time of work that never waits: 1 where nobody else is at work, else more.

    For the few rows of faults that are about time: their figure for work, times this, is what a drill may judge by. It
    has a bound: no fault is excused by a machine that is slow enough.
    """
    began_s, used_s = time.monotonic(), time.thread_time()
    while time.thread_time() - used_s < _SPIN_S:
        pass
    return min(max(1.0, (time.monotonic() - began_s) / _SPIN_S), _MOST_SLOWNESS)


def is_stopped(pid: int) -> bool:
    """Whether a process stands still (SIGSTOP)."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "T"


def say(text: str) -> None:
    """Say a figure of a drill; none is judged but where its row of faults is about time."""
    print(text)  # noqa: T201 - shown with -s, and when the test fails


def wait_until(question: Callable[[], object], *, what: str, bound_s: float = BOUND_S) -> None:
    """As `until`, blocking."""
    give_up_at = time.monotonic() + bound_s
    while not question():
        assert time.monotonic() < give_up_at, f"not within {bound_s:g} s: {what}"
        time.sleep(_POLL_S)
