"""Noticing that the database's clock leapt: its time against the time that really passed in this process.

Owns the comparison. The process's own wall clock is never asked: however wrong it is, nothing fires early or twice.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from outrider.base.clock import boottime_s
from outrider.domain.schedules.fire import Leap

TOLERANCE = timedelta(seconds=30)
"""A clock that is slewed stays far below this between two looks."""


class Leaps:
    """What one process has seen of the database's clock."""

    def __init__(self) -> None:
        self._seen: tuple[datetime, float] | None = None
        self.last: Leap | None = None

    def look(self, now: datetime, passed_s: float | None = None) -> timedelta:
        """Take note of the database's time.

        Takes:   passed_s  this machine's seconds since boot; asked for when absent
        Gives:   by how much the clock leapt since the last look, forwards or backwards; nothing below the tolerance.
        """
        at_s = boottime_s() if passed_s is None else passed_s
        seen, self._seen = self._seen, (now, at_s)
        if seen is None:
            return timedelta(0)
        leapt = now - seen[0] - timedelta(seconds=at_s - seen[1])
        if abs(leapt) < TOLERANCE:
            return timedelta(0)
        if leapt > timedelta(0):
            self.last = Leap(seen[0], now)
        return leapt
