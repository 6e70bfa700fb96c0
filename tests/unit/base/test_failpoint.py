"""Failpoints: parsing, counting, acting; the deadly ones in a child process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from outrider.base import failpoint
from outrider.base.errors import Misconfigured

PASSES = (
    "from outrider.base import failpoint\nfor _ in range(5):\n    failpoint.hit('here')\n    failpoint.hit('there')"
)


def _run(armed: str, log: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OR_FAILPOINT": armed, "OR_FAILPOINT_LOG": str(log)}
    return subprocess.run(
        [sys.executable, "-c", PASSES], env=environment, capture_output=True, text=True, timeout=240, check=False
    )


def test_nothing_is_armed_without_the_variable() -> None:
    assert not failpoint.ARMED
    failpoint.hit("anything")


def test_the_process_dies_by_sigkill_at_the_nth_hit_and_the_log_proves_it(tmp_path: Path) -> None:
    log = tmp_path / "hits"
    assert _run("here:3:kill", log).returncode == -signal.SIGKILL
    lines = [line.split()[:3] for line in log.read_text().splitlines()]
    assert lines == [["here", "1", "pass"], ["here", "2", "pass"], ["here", "3", "kill"]]


def test_a_point_armed_to_raise_raises_and_others_only_count(tmp_path: Path) -> None:
    log = tmp_path / "hits"
    done = _run("there:2:raise;here:0:kill", log)
    assert done.returncode == 1
    assert "failpoint there was armed to raise" in done.stderr
    assert [line.split()[0] for line in log.read_text().splitlines()] == ["here", "there", "here", "there"]


@pytest.mark.parametrize("text", ["here", "here:x:kill", "here:1:explode", ":1:kill", "here:1:sleep:soon"])
def test_a_malformed_failpoint_is_refused_and_named(text: str) -> None:
    with pytest.raises(Misconfigured, match=text):
        failpoint.parse(text)
