"""Run a command and leave nothing of it behind.

Everything the command starts stays below this process, also what detaches itself (Linux: child subreaper). When the
command has ended, whatever still runs is named, asked to stop, then killed, and the run counts as failed: a program
that leaves processes behind is not clean. Owns no knowledge of what it runs.

    tools/contained.py COMMAND [ARGUMENT …]
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType

_PR_SET_CHILD_SUBREAPER = 36
_GRACE_S = 10.0
_SETTLE_S = 2.0
"""Children of an ended program may take this long to notice it."""


def main(command: list[str]) -> int:
    """Give the command's exit status, or 1 when it left processes behind."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    pid = os.posix_spawnp(command[0], command, os.environ)

    def forward(number: int, _frame: FrameType | None) -> None:
        # Ctrl-C reaches the whole foreground group by itself; a plain kill reaches only us
        if number == signal.SIGTERM:
            os.kill(pid, number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, forward)
    status = _wait(pid)
    code = status if status >= 0 else 128 - status
    left = _gone_within(_SETTLE_S)
    if not left:
        return code
    for orphan, name in left.items():
        sys.stderr.write(f"left behind by {command[0]}: {name} (process {orphan})\n")
        with suppress(ProcessLookupError):
            os.kill(orphan, signal.SIGTERM)
    for orphan in _gone_within(_GRACE_S):
        with suppress(ProcessLookupError):
            os.kill(orphan, signal.SIGKILL)
    _gone_within(_GRACE_S)
    return code or 1


def _wait(pid: int) -> int:
    """Wait for the command; orphans that end meanwhile are buried at once, so that nobody takes them for alive."""
    while True:
        ended, status = os.waitpid(-1, 0)
        if ended == pid:
            return os.waitstatus_to_exitcode(status)


def _gone_within(bound_s: float) -> dict[int, str]:
    """Wait until no descendant is left; gives those that are, by process id."""
    ends_at = time.monotonic() + bound_s
    while True:
        left = _descendants(os.getpid())
        _reap()  # after the look: what it took for dead is buried before we end, whoever inherits our children
        if not left or time.monotonic() > ends_at:
            return left
        time.sleep(0.02)


def _reap() -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _descendants(root: int) -> dict[int, str]:
    """Process id -> command line of everything alive below a process (nothing where there is no /proc)."""
    parents: dict[int, int] = {}
    names: dict[int, str] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                parents[int(entry.name)] = int(parent)
                names[int(entry.name)] = (
                    (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()[:120]
                )
    found: set[int] = {root}
    while grown := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= grown
    return {pid: names[pid] for pid in found - {root}}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
