"""Hours of the day in which something must not happen, by the wall clock of a zone, through every change of clocks.

Owns when such hours end and begin, as instants. An instant is quiet exactly when the wall clock of the zone shows a
quiet time at it: where clocks leap over the end of the hours, the leap ends them; where an hour comes twice, both
count.
Never reads a clock: the instant is handed in.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Protocol
from zoneinfo import ZoneInfo

_DAY = timedelta(days=1)
_STEP = timedelta(hours=3)
_FARTHEST = 400
"""Days looked ahead: calendars that forbid a whole year are answered with its end."""


class Holidays(Protocol):
    """A calendar of holidays; equal ones have equal hashes."""

    def name_of(self, day: date) -> str | None:
        """What a day is a holiday for; None for any other."""
        ...


@dataclass(frozen=True, slots=True)
class Hours:
    """Quiet from `begins` to before `ends` (over midnight when it ends earlier), on quiet days all day.

    weekdays   ISO numbers, 1 Monday to 7 Sunday
    days       dates that are quiet once
    yearly     (month, day) of every year
    holidays   a calendar whose days are quiet
    """

    begins: time | None = None
    ends: time | None = None
    weekdays: frozenset[int] = frozenset()
    days: frozenset[date] = frozenset()
    yearly: frozenset[tuple[int, int]] = frozenset()
    holidays: Holidays | None = None

    def are_quiet(self, wall: datetime) -> bool:
        """Whether the wall clock shows a quiet time."""
        day = wall.date()
        if day.isoweekday() in self.weekdays or day in self.days or (day.month, day.day) in self.yearly:
            return True
        if self.holidays is not None and self.holidays.name_of(day) is not None:
            return True
        if self.begins is None or self.ends is None:
            return False
        clock = wall.time()
        if self.begins < self.ends:
            return self.begins <= clock < self.ends
        return clock >= self.begins or clock < self.ends


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether an instant is quiet, and the next instant at which that changes (UTC)."""

    is_quiet: bool
    until: datetime


def ask(hours: Hours, zone: str, now: datetime) -> Answer:
    """Say whether `now` is quiet in a zone, and until when it stays as it is.

    Takes:   zone   an IANA name; `now` aware.
    Raises:  KeyError (ZoneInfoNotFoundError) or ValueError for a zone nobody knows.
    """
    now = now.astimezone(UTC)
    day = now.date()
    instants, states = _changes(hours, zone, day)
    at = bisect_right(instants, now) - 1
    is_quiet = states[at]
    if at + 1 < len(instants):
        return Answer(is_quiet, instants[at + 1])
    for _ in range(_FARTHEST):
        day += _DAY
        instants, states = _changes(hours, zone, day)
        for instant, state in zip(instants, states, strict=True):
            if state != is_quiet:
                return Answer(is_quiet, instant)
    return Answer(is_quiet, instants[0])


@lru_cache(maxsize=8192)
def _changes(hours: Hours, zone: str, day: date) -> tuple[list[datetime], list[bool]]:
    """The states of one UTC day in order; the first begins with the day, each later one is a change."""
    tz = ZoneInfo(zone)
    begin = datetime(day.year, day.month, day.day, tzinfo=UTC)
    end = begin + _DAY
    candidates = {begin}
    walls = {time(0), *(clock for clock in (hours.begins, hours.ends) if clock is not None)}
    for shift in (-1, 0, 1):
        local_day = day + shift * _DAY
        for clock in walls:
            for fold in (0, 1):
                candidates.add(datetime.combine(local_day, clock, tzinfo=tz).replace(fold=fold).astimezone(UTC))
    candidates |= _leaps(tz, begin, end)
    instants: list[datetime] = []
    states: list[bool] = []
    for instant in sorted(each for each in candidates if begin <= each < end):
        state = hours.are_quiet(instant.astimezone(tz).replace(tzinfo=None))
        if not states or state != states[-1]:
            instants.append(instant)
            states.append(state)
    return instants, states


def _leaps(tz: ZoneInfo, begin: datetime, end: datetime) -> set[datetime]:
    """The instants between two at which the zone's clocks are set, to the second."""
    found = set()
    while begin < end:
        after = min(begin + _STEP, end)
        if _offset(tz, begin) != _offset(tz, after):
            low, high = 0, int((after - begin).total_seconds())
            while high - low > 1:
                middle = (low + high) // 2
                if _offset(tz, begin + timedelta(seconds=middle)) == _offset(tz, begin):
                    low = middle
                else:
                    high = middle
            found.add(begin + timedelta(seconds=high))
        begin = after
    return found


def _offset(tz: ZoneInfo, instant: datetime) -> timedelta | None:
    return instant.astimezone(tz).utcoffset()
