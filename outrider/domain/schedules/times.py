"""Which instants a schedule means: wall-clock times of an expression, placed in a zone by one rule.

Owns the rule for changes of the clock and nothing else; pure. The rule (docs/how-to/schedules.md):

- An expression that names hours (`0 2 * * *`, `0 */6 * * *`) runs once per local day at each time it names. A time that
  the clock skips runs at the first moment after the gap; a time that it shows twice runs the first time.
- An expression for every hour (`0 * * * *`, `*/15 * * * *`) runs whenever the clock shows its minute: 25 hours have 25.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import islice

from outrider.domain.schedules.cron import Cron

_SECOND = timedelta(seconds=1)
_DAY = timedelta(days=1)
_NOTHING = timedelta(0)
_FIRST_WINDOW = timedelta(hours=1)
_LONGEST_WINDOW = timedelta(days=366 * 30)


@dataclass(frozen=True, slots=True, order=True)
class Planned:
    """One planned time.

    at    the instant (UTC)
    wall  the wall-clock time the expression names; differs from the local time of `at` only after a gap
    """

    at: datetime
    wall: datetime


def runs(cron: Cron, zone: tzinfo, after: datetime, wall: datetime | None = None) -> Iterator[Planned]:
    """The planned times strictly after an instant, ascending, each instant once.

    Takes:   after  with a zone
             wall   the wall-clock time handled last: after a change of the zone's rules the same local time of the same
                    day does not come again. Only for expressions that name hours.
    """
    moment = after.astimezone(UTC)
    if not cron.names_hours:
        yield from _every_hour(cron, zone, moment)
        return
    begin = wall or _wall(moment, zone)
    for named in cron.after(begin):
        instant = _instant(named, zone)
        if instant > moment:
            yield Planned(instant, named)
            moment = instant


def next_run(cron: Cron, zone: tzinfo, after: datetime, wall: datetime | None = None) -> Planned | None:
    """The first planned time after an instant; None when there is none within 50 years."""
    return next(runs(cron, zone, after, wall), None)


def upcoming(cron: Cron, zone: tzinfo, after: datetime, count: int) -> list[Planned]:
    """The next planned times."""
    return list(islice(runs(cron, zone, after), count))


def previous(cron: Cron, zone: tzinfo, until: datetime, count: int) -> list[Planned]:
    """The latest planned times up to an instant (included), ascending: looks forward from ever further back."""
    window = _FIRST_WINDOW
    while True:
        found: list[Planned] = []
        for planned in runs(cron, zone, until - window):
            if planned.at > until:
                break
            found.append(planned)
        if len(found) >= count or window > _LONGEST_WINDOW:
            return found[-count:]
        window *= 2


def _every_hour(cron: Cron, zone: tzinfo, moment: datetime) -> Iterator[Planned]:
    """Every instant at which the clock shows one of the wall-clock times: repeated ones twice, skipped ones never.

    Goes from one change of the clock to the next; between two of them wall-clock time is UTC plus a constant.
    """
    begin = _wall(moment, zone)
    while True:
        offset = _offset(moment, zone)
        for named in cron.after(begin):
            instant = (named - offset).replace(tzinfo=UTC)
            change = _change(moment, instant, zone)
            if change is not None:
                moment, begin = change, _wall(change, zone) - _SECOND
                break
            yield Planned(instant, named)
            moment = instant
        else:
            return


def _instant(named: datetime, zone: tzinfo) -> datetime:
    """The instant of a wall-clock time: the first of two, or the end of the gap that it lies in."""
    instant = named.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if _wall(instant, zone) == named:
        return instant
    before = named.replace(tzinfo=zone, fold=1).astimezone(UTC)
    return _change(before, instant, zone) or instant


def _change(low: datetime, high: datetime, zone: tzinfo) -> datetime | None:
    """The first instant after `low`, up to `high`, at which the zone's offset is another; None when it stays."""
    offset = _offset(low, zone)
    while low < high:
        ahead = min(low + _DAY, high)
        if _offset(ahead, zone) != offset:
            while ahead - low > _SECOND:
                middle = low + timedelta(seconds=(ahead - low) // _SECOND // 2)
                if _offset(middle, zone) == offset:
                    low = middle
                else:
                    ahead = middle
            return ahead
        low = ahead
    return None


def _offset(instant: datetime, zone: tzinfo) -> timedelta:
    return instant.astimezone(zone).utcoffset() or _NOTHING


def _wall(instant: datetime, zone: tzinfo) -> datetime:
    """What a clock in the zone shows."""
    return instant.astimezone(zone).replace(tzinfo=None, fold=0)
