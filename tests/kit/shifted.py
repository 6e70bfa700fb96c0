"""A process of the product on a machine whose clock is wrong: `python -m tests.kit.shifted SECONDS -m outrider …`.

API
    shifted(command, seconds) -> Command     the same command on such a machine
What Python's own clocks say is shifted, and the product's `utc_now`; CLOCK_BOOTTIME goes on as it does on a machine
whose wall clock was set.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from datetime import datetime, timedelta

from outrider.base import clock
from tests.kit.command import Command


def shifted(command: Command, seconds: int) -> Command:
    """The same command where the wall clock is off by so much."""
    return dataclasses.replace(command, python=("-m", "tests.kit.shifted", str(seconds)))


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
    _shift(int(sys.argv[1]))
    from outrider.app import main  # after the clocks are shifted: what is imported keeps the shifted ones

    assert sys.argv[2:4] == ["-m", "outrider"]
    sys.exit(main(sys.argv[4:]))
