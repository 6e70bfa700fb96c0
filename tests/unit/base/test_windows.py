"""Quiet hours against the wall clock of the zone itself, minute by minute where clocks are set [F80]."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pytest

from outrider.base.windows import Hours, ask

NIGHT = Hours(time(21), time(9))
ZONES = (
    "UTC", "Europe/Berlin", "Europe/London", "America/New_York", "America/Sao_Paulo", "America/Santiago",
    "America/St_Johns", "America/Havana", "Africa/Cairo", "Africa/Casablanca", "Asia/Kolkata", "Asia/Kathmandu",
    "Asia/Beirut", "Asia/Tehran", "Asia/Gaza", "Australia/Lord_Howe", "Australia/Sydney", "Pacific/Auckland",
    "Pacific/Chatham", "Pacific/Kiritimati",
)  # fmt: skip
HOURS = {
    "night": NIGHT,
    "in the leap": Hours(time(0, 30), time(2, 30)),
    "to midnight": Hours(time(12), time(0)),
    "days": Hours(time(21), time(9), frozenset({7}), frozenset({date(2027, 3, 26)}), frozenset({(12, 25)})),
}
BEGIN, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2028, 1, 1, tzinfo=UTC)


def wall(zone: str, instant: datetime) -> datetime:
    return instant.astimezone(ZoneInfo(zone)).replace(tzinfo=None)


@pytest.mark.parametrize("hours", HOURS.values(), ids=HOURS)
@pytest.mark.parametrize("zone", ZONES)
def test_every_change_in_two_years_is_where_the_wall_clock_enters_or_leaves_the_hours(zone: str, hours: Hours) -> None:
    at, changes = BEGIN, 0
    while at < END:
        answer = ask(hours, zone, at)
        assert answer.is_quiet == hours.are_quiet(wall(zone, at))
        assert answer.until > at
        second = timedelta(seconds=1)
        assert hours.are_quiet(wall(zone, answer.until)) != answer.is_quiet, "it changes there"
        assert hours.are_quiet(wall(zone, answer.until - second)) == answer.is_quiet, "and not before"
        step, inside = (answer.until - at) / 7, at
        while inside < answer.until:  # nothing changed meanwhile
            assert hours.are_quiet(wall(zone, inside)) == answer.is_quiet
            inside += min(step, timedelta(minutes=17)) if step > second else second
        at, changes = answer.until, changes + 1
    assert changes >= 1200, "hours of each day begin and end"


def test_a_minute_before_the_hours_and_the_minute_they_begin_are_told_apart() -> None:
    before = datetime(2026, 7, 1, 18, 59, 59, 999999, tzinfo=UTC)
    assert ask(NIGHT, "Europe/Berlin", before).until == datetime(2026, 7, 1, 19, tzinfo=UTC)
    begun = ask(NIGHT, "Europe/Berlin", datetime(2026, 7, 1, 19, tzinfo=UTC))
    assert (begun.is_quiet, begun.until) == (True, datetime(2026, 7, 2, 7, tzinfo=UTC))


def test_the_leap_over_the_end_of_the_hours_ends_them() -> None:
    hours = Hours(time(1), time(2, 30))
    inside = datetime(2027, 3, 28, 0, 30, tzinfo=UTC)
    assert ask(hours, "Europe/Berlin", inside).until == datetime(2027, 3, 28, 1, tzinfo=UTC), "02:00 is 03:00"


def test_hours_that_come_twice_are_quiet_twice() -> None:
    hours = Hours(time(2), time(3))
    first = ask(hours, "Europe/Berlin", datetime(2026, 10, 25, 0, 30, tzinfo=UTC))
    assert (first.is_quiet, first.until) == (True, datetime(2026, 10, 25, 2, tzinfo=UTC))


def test_a_run_of_quiet_days_is_waited_for_as_a_whole() -> None:
    hours = Hours(time(21), time(9), frozenset({6, 7}), yearly=frozenset({(12, 25)}))
    answer = ask(hours, "UTC", datetime(2026, 12, 24, 22, tzinfo=UTC))
    assert answer.until == datetime(2026, 12, 28, 9, tzinfo=UTC)


def test_a_calendar_without_an_open_day_is_answered_with_more_than_a_year() -> None:
    always = Hours(weekdays=frozenset(range(1, 8)))
    answer = ask(always, "UTC", BEGIN)
    assert answer.is_quiet
    assert answer.until > BEGIN + timedelta(days=366)


def test_an_unknown_zone_is_the_callers_business() -> None:
    with pytest.raises((ZoneInfoNotFoundError, ValueError)):
        ask(NIGHT, "Europe/Atlantis", BEGIN)
