"""A process of the product on a machine whose clock is wrong: `python -m tests.kit.shifted SECONDS -m outrider …`.

API
    shifted(command, seconds) -> Command     the same command on such a machine
    leaping(command, path) -> Command        on one whose clock follows a file: `set_clock(path, leap_s=…, drift=…)`
What Python's own clocks say is shifted, and the product's `utc_now`; CLOCK_BOOTTIME goes on as it does on a machine
whose wall clock was set, but drifts with it.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path

from outrider.base import clock
from tests.kit.command import Command


def shifted(command: Command, seconds: int) -> Command:
    """The same command where the wall clock is off by so much."""
    return dataclasses.replace(command, python=("-m", "tests.kit.shifted", str(seconds)))


def leaping(command: Command, path: Path) -> Command:
    """The same command where the wall clock is off by what a file says, and drifts."""
    return dataclasses.replace(command, python=("-m", "tests.kit.shifted", str(path)))


def set_clock(path: Path, *, leap_s: float, drift: float) -> None:
    """Let the clock leap to so many seconds off the right time, and gain so much of each second from now on."""
    draft = path.with_suffix(".new")
    draft.write_text(f"{leap_s} {drift} {time.clock_gettime(time.CLOCK_BOOTTIME)}")
    draft.rename(path)


def _follow(path: Path) -> None:
    real, real_ns, was, reads = time.time, time.time_ns, clock.utc_now, time.clock_gettime

    def off() -> tuple[float, float]:
        leap_s, drift, since_s = map(float, path.read_text().split())
        drifted_s = drift * (reads(time.CLOCK_BOOTTIME) - since_s)
        return leap_s + drifted_s, drifted_s

    def read(which: int) -> float:
        return reads(which) + (off()[1] if which == time.CLOCK_BOOTTIME else 0.0)

    time.time = lambda: real() + off()[0]
    time.time_ns = lambda: real_ns() + int(off()[0] * 1e9)
    time.clock_gettime = read
    clock.utc_now = lambda: was() + timedelta(seconds=off()[0])


def _shift(seconds: int) -> None:
    real, real_ns, was = time.time, time.time_ns, clock.utc_now

    def now() -> float:
        return real() + seconds

    def now_ns() -> int:
        return real_ns() + seconds * 1_000_000_000

    def utc() -> datetime:
        return was() + timedelta(seconds=seconds)

    time.time, time.time_ns, clock.utc_now = now, now_ns, utc


if __name__ == "__main__":
    if Path(sys.argv[1]).exists():
        _follow(Path(sys.argv[1]))
    else:
        _shift(int(sys.argv[1]))
    from outrider.app import main  # after the clocks are shifted: what is imported keeps the shifted ones

    assert sys.argv[2:4] == ["-m", "outrider"]
    sys.exit(main(sys.argv[4:]))
