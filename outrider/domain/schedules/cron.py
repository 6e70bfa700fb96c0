"""Cron expressions: a strict reader in front of cronsim, and the wall-clock times an expression names.

Owns what is accepted and the order of wall-clock times; knows no zone: which instant a wall-clock time is, is decided
in `times`. cronsim is used without a zone because, with one, it leaves out runs after a half-hour change
(Lord Howe) and gives a run of the past when asked inside a repeated hour; both were measured with 2.8.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from itertools import pairwise

from cronsim import CronSim, CronSimError
from cronsim.explain import Expression

from outrider.base.errors import Refused

LONGEST = 256
"""Characters of an expression."""
_DAY_MINUTES = 24 * 60
_ANY_DAY = date(2001, 1, 1)
_YEAR_DAYS = 366
_BLANKS = re.compile(r"[ \t\r\n]+")
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")


@dataclass(frozen=True, slots=True)
class _Part:
    """One of the five fields: its bounds, and the names and special words it may hold beside numbers."""

    name: str
    least: int
    most: int
    names: tuple[str, ...] = ()
    first_name: int = 0
    special: re.Pattern[str] | None = None

    def check(self, text: str) -> None:
        """Read one field. Raises Refused(invalid_cron) that says what is wrong with it."""
        for term in text.split(","):
            if not (self.special and self.special.fullmatch(term)):
                self._check_term(term)

    def _check_term(self, term: str) -> None:
        base, slash, step = term.partition("/")
        if base == "*":
            low, high = self.least, self.most
        else:
            first, dash, last = base.partition("-")
            low = self._value(first)
            high = self._value(last) if dash else low
            if slash and not dash:
                raise _refused(f"{self.name}: a step needs a range, for example {low}-{self.most}/{step[:4]}")
            if high < low:
                raise _refused(f"{self.name}: the range {base} runs backwards; write two ranges instead")
        if slash and not (_is_digits(step) and 1 <= int(step) <= high - low + 1):
            raise _refused(f"{self.name}: the step must be a whole number from 1 to {high - low + 1}")

    def _value(self, text: str) -> int:
        if text in self.names:
            return self.names.index(text) + self.first_name
        if not _is_digits(text) or not self.least <= int(text) <= self.most:
            names = f" or {self.names[0]} to {self.names[-1]}" if self.names else ""
            raise _refused(f"{self.name}: must be from {self.least} to {self.most}{names}")
        return int(text)


_PARTS = (
    _Part("minute", 0, 59),
    _Part("hour", 0, 23),
    _Part("day of month", 1, 31, special=re.compile(r"LW?")),
    _Part("month", 1, 12, _MONTHS, 1),
    _Part("day of week", 0, 7, _DAYS, 0, re.compile(rf"([0-7]|{'|'.join(_DAYS)})#[1-5]|[0-7]L")),
)


@dataclass(frozen=True, slots=True)
class Cron:
    """An expression that was read: five fields in capitals, one blank between them."""

    text: str
    _fields: CronSim = field(repr=False, compare=False)

    @property
    def names_hours(self) -> bool:
        """Whether it names times of day; else it runs at its minutes of every hour.

        The first kind runs once per local day at each time it names, the second whenever the clock shows its minute.
        """
        return len(self._fields.hours) < len(range(24))

    @property
    def meaning(self) -> str:
        """What it says, in English."""
        return str(Expression(self.text.split()).explain())

    def after(self, wall: datetime) -> Iterator[datetime]:
        """The wall-clock times (without a zone) it names, ascending, strictly after `wall`; ends after 50 empty years.

        Takes:   a datetime without zone.
        """
        yield from CronSim(self.text, wall)

    def least_gap_minutes(self) -> int:
        """The least number of minutes between two of its wall-clock times."""
        hours, minutes = sorted(self._fields.hours), sorted(self._fields.minutes)
        times = [hour * 60 + minute for hour in hours for minute in minutes]
        gap = min((late - early for early, late in pairwise(times)), default=_DAY_MINUTES)
        over_midnight = times[0] + _DAY_MINUTES - times[-1]
        if over_midnight < gap and self._has_days_in_a_row():
            return over_midnight
        return gap

    def _has_days_in_a_row(self) -> bool:
        """Whether two days that follow each other ever match, seen over four years."""
        days = (_ANY_DAY + timedelta(days=number) for number in range(4 * _YEAR_DAYS))
        return any(before and after for before, after in pairwise(self._is_of(day) for day in days))

    def _is_of(self, day: date) -> bool:
        return day.month in self._fields.months and self._fields.match_day(day)


def parse(text: str, *, field: str = "/cron") -> Cron:
    """Read an expression of five fields: minute, hour, day of month, month, day of week.

    Takes:   ASCII; numbers, `*`, ranges, lists and steps, names of months and days in English in any case; `L` and `LW`
             (last day, last working day of the month), `MON#1` (first Monday), `5L` (last Friday). Blanks and line ends
             between the fields and around them count as one blank.
    Raises:  Refused(invalid_cron) saying which field; Refused(never_runs) for days that do not exist.
    Source:  bad inputs R04 to R37
    """
    if len(text) > LONGEST:
        raise _refused(f"must have at most {LONGEST} characters", field)
    plain = _BLANKS.sub(" ", text).strip(" ").upper()
    if not plain.isascii() or not plain.isprintable():
        raise _refused("must be plain ASCII", field)
    parts = plain.split(" ") if plain else []
    if len(parts) != len(_PARTS):
        raise _refused(
            f"must have five fields (minute, hour, day of month, month, day of week), it has {len(parts)}", field
        )
    for part, given in zip(_PARTS, parts, strict=True):
        try:
            part.check(given)
        except Refused as error:
            raise _refused(error.message, field) from None
    return _known(plain, field)


def _known(plain: str, field: str) -> Cron:
    try:
        sim = CronSim(plain, datetime(2001, 1, 1))  # noqa: DTZ001 - wall-clock time has no zone
    except CronSimError:
        raise Refused("never_runs", "names days that do not exist", field=field) from None
    found = Cron(plain, sim)
    if next(found.after(datetime(2001, 1, 1)), None) is None:  # noqa: DTZ001 - wall-clock time has no zone
        raise Refused("never_runs", "names days that do not exist", field=field)
    return found


def _is_digits(text: str) -> bool:
    """ASCII digits, few enough to be a number of a clock."""
    return 1 <= len(text) <= len("59") and text.isascii() and text.isdigit()


def _refused(message: str, field: str = "/cron") -> Refused:
    return Refused("invalid_cron", message, field=field)
