"""A process whose parent is gone ends, also when it cannot hear it; one that stops in order is left alone."""

from __future__ import annotations

import subprocess
import sys

from outrider.interfaces.cli import exits
from tests.kit.command import ROOT

_HEAD = """
import asyncio, time
from outrider.app import signals
signals.STUCK_AFTER_S = 0.1
"""


def _orphaned(program: str) -> tuple[int, str]:
    """Run it, end its stdin when it has printed a line; gives its exit code and what it printed afterwards."""
    with subprocess.Popen(
        [sys.executable, "-c", _HEAD + program],
        cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        try:
            said, _ = process.communicate(timeout=240)
        finally:
            process.kill()
    return process.returncode, said


def test_a_process_whose_event_loop_is_stuck_does_not_outlive_its_parent() -> None:
    program = """
async def main():
    with signals.stopping(0.1, lifeline=True):
        print("here", flush=True)
        time.sleep(600)
asyncio.run(main())
"""
    code, said = _orphaned(program)
    assert (code, said.split()[-1]) == (exits.TERMINATED, "why=stuck")


def test_what_a_process_does_after_it_has_stopped_in_order_may_last() -> None:
    # it lasts until whoever would end it has had its say: later than any grace, and never sooner than that
    program = """
import threading
async def main():
    with signals.stopping(60, lifeline=True) as stop:
        watching = [each for each in threading.enumerate() if each is not threading.main_thread()]
        print("here", flush=True)
        await stop.event.wait()
    for each in watching:
        each.join()
    print(len(watching), "done")
asyncio.run(main())
"""
    code, said = _orphaned(program)
    assert (code, said.split()[-2:]) == (0, ["1", "done"])
