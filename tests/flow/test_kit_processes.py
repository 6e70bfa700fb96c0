"""The drills' kit waits until a process that stops itself has done so: continued before, it would stop for good."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.processes import Process, is_stopped, until

_STOPS_LATER = """
import os, pathlib, signal, sys
pathlib.Path(sys.argv[1]).write_text(f"point 1 stop {os.getpid()}\\n")
sys.stdin.readline()
os.kill(os.getpid(), signal.SIGSTOP)
"""


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Process]:
    """A process that says that it stops, and does when it is told to."""
    hits = tmp_path / "hits"
    with subprocess.Popen([sys.executable, "-c", _STOPS_LATER, str(hits)], stdin=subprocess.PIPE, text=True) as child:
        yield Process("victim", child, tmp_path / "log", hits)
        child.kill()


async def test_who_says_that_it_stops_is_waited_for_until_it_has(victim: Process) -> None:
    await until(victim.hits, what="it says that it stops")
    with pytest.raises(AssertionError, match="not within"):
        await victim.stands_still(what="it has stopped", bound_s=0.1)
    assert not is_stopped(victim.process.pid)
    assert victim.process.stdin is not None
    victim.process.stdin.write("\n")
    victim.process.stdin.flush()
    await victim.stands_still(what="it has stopped")
    victim.thaw()
    assert await victim.ended() == 0
