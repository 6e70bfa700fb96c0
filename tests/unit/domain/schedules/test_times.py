"""From wall-clock times to instants: once per local day whatever the clock does, over 20 zones and two years [F80]."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise, takewhile
from zoneinfo import ZoneInfo

import pytest

from outrider.domain.schedules import times
from outrider.domain.schedules.cron import parse
from outrider.domain.schedules.times import Planned

ZONES = (
    "UTC", "Europe/Berlin", "Europe/London", "Europe/Istanbul", "America/New_York", "America/Santiago",
    "America/Havana", "America/Sao_Paulo", "America/St_Johns", "America/Asuncion", "Australia/Lord_Howe",
    "Australia/Sydney", "Pacific/Auckland", "Pacific/Chatham", "Pacific/Apia", "Africa/Cairo", "Africa/Casablanca",
    "Asia/Beirut", "Asia/Kathmandu", "Antarctica/Troll",
)  # fmt: skip
BEGIN = date(2026, 1, 1)
END = date(2028, 1, 1)
DAYS = (END - BEGIN).days
DAILY = ("0 0 * * *", "30 0 * * *", "30 1 * * *", "30 2 * * *", "0 3 * * *", "45 23 * * *")


def local(text: str, zone: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone))


def over_two_years(cron: str, zone: str) -> list[Planned]:
    at = ZoneInfo(zone)
    begin = datetime(2025, 12, 31, 23, 59, 59, tzinfo=at)
    return list(takewhile(lambda run: run.wall.date() < END, times.runs(parse(cron), at, begin)))


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("cron", DAILY)
def test_a_time_of_day_comes_once_on_every_local_day(cron: str, zone: str) -> None:
    runs = over_two_years(cron, zone)
    days = Counter(run.wall.date() for run in runs)
    assert len(days) == DAYS
    assert set(days.values()) == {1}
    assert all(early.at < late.at for early, late in pairwise(runs))
    shown = Counter(run.at.astimezone(ZoneInfo(zone)).date() for run in runs)
    assert set(shown.values()) == {1}, "no local day has two, none is left out"
    assert len(shown) == DAYS


@pytest.mark.parametrize("zone", ZONES)
def test_every_instant_at_which_the_clock_shows_the_minute_is_a_run_of_an_hourly_schedule(zone: str) -> None:
    at = ZoneInfo(zone)
    runs = [run.at for run in over_two_years("15 * * * *", zone)]
    first, last = runs[0], runs[-1]
    minutes = (first + timedelta(minutes=15 * number) for number in range((last - first) // timedelta(minutes=15) + 1))
    assert runs == [minute for minute in minutes if minute.astimezone(at).minute == 15]


@pytest.mark.parametrize(
    ("zone", "cron", "after", "expected"),
    [
        # the hour that is skipped: at the first moment after it, once for all times in it
        ("America/New_York", "30 2 * * *", "2026-03-07T12:00", ["2026-03-08T03:00-04:00", "2026-03-09T02:30-04:00"]),
        ("America/New_York", "0,30 2 * * *", "2026-03-07T12:00", ["2026-03-08T03:00-04:00", "2026-03-09T02:00-04:00"]),
        ("America/Santiago", "0 0 * * *", "2026-09-05T12:00", ["2026-09-06T01:00-03:00", "2026-09-07T00:00-03:00"]),
        ("Africa/Cairo", "30 0 * * *", "2026-04-23T12:00", ["2026-04-24T01:00+03:00", "2026-04-25T00:30+03:00"]),
        ("Australia/Lord_Howe", "15 2 * * *", "2026-10-03T12:00", ["2026-10-04T02:30+11:00", "2026-10-05T02:15+11:00"]),
        # the hour that comes twice: the first time
        ("America/New_York", "30 1 * * *", "2026-10-31T12:00", ["2026-11-01T01:30-04:00", "2026-11-02T01:30-05:00"]),
        ("Africa/Cairo", "30 23 * * *", "2026-10-29T12:00", ["2026-10-29T23:30+03:00", "2026-10-30T23:30+02:00"]),
        # opening hours on the day of a half-hour change
        ("Australia/Lord_Howe", "*/9 9 * * *", "2026-10-03T18", ["2026-10-04T09:00+11:00", "2026-10-04T09:09+11:00"]),
        # the day that Samoa left out
        ("Pacific/Apia", "0 0 * * *", "2011-12-28T12:00", ["2011-12-29T00:00-10:00", "2011-12-31T00:00+14:00"]),
        ("Pacific/Apia", "0 * * * *", "2011-12-29T22:30", ["2011-12-29T23:00-10:00", "2011-12-31T00:00+14:00"]),
    ],
)  # fmt: skip
def test_a_change_of_the_clock_is_met_by_the_documented_rule(
    zone: str, cron: str, after: str, expected: list[str]
) -> None:
    found = times.upcoming(parse(cron), ZoneInfo(zone), local(after, zone), 2)
    assert [run.at.astimezone(ZoneInfo(zone)).isoformat(timespec="minutes") for run in found] == expected


def test_a_day_of_25_hours_has_25_hourly_runs_and_one_of_23_has_23() -> None:
    zone = ZoneInfo("America/New_York")
    runs = [run.at.astimezone(zone).date() for run in over_two_years("0 * * * *", "America/New_York")]
    days = Counter(runs)
    assert days[date(2026, 11, 1)] == 25
    assert days[date(2026, 3, 8)] == 23
    assert days[date(2026, 3, 9)] == 24


def test_asked_within_the_repeated_hour_the_next_run_is_never_in_the_past() -> None:
    zone = ZoneInfo("America/New_York")
    second_time = datetime(2026, 11, 1, 1, 15, tzinfo=zone, fold=1)
    found = times.next_run(parse("30 1 * * *"), zone, second_time)
    assert found is not None
    assert found.at.astimezone(zone).isoformat() == "2026-11-02T01:30:00-05:00"


@pytest.mark.parametrize("cron", ["0 2 * * *", "*/7 * * * *", "0 9 * * MON#1", "0 0 29 2 *"])
def test_what_lies_behind_is_what_lay_ahead(cron: str) -> None:
    zone = ZoneInfo("Europe/Berlin")
    now = datetime(2026, 11, 20, 9, tzinfo=UTC)
    before = times.previous(parse(cron), zone, now, 5)
    assert len(before) == 5
    assert times.upcoming(parse(cron), zone, before[0].at - timedelta(seconds=1), 5) == before
    following = times.next_run(parse(cron), zone, before[-1].at)
    assert following is not None
    assert following.at > now


def test_a_planned_time_that_is_now_lies_behind_and_not_ahead() -> None:
    now = datetime(2026, 11, 20, 2, tzinfo=UTC)
    assert times.previous(parse("0 2 * * *"), UTC, now, 1)[0].at == now
    assert times.upcoming(parse("0 2 * * *"), UTC, now, 1)[0].at == now + timedelta(days=1)


def test_rules_that_move_the_local_time_back_do_not_give_the_same_local_day_twice() -> None:
    # 02:00 was handled while the zone was at +3; now its rules say +2, and 02:00 of the same day is still to come
    handled = datetime(2026, 11, 19, 23, tzinfo=UTC)
    zone = ZoneInfo("Etc/GMT-2")
    cron = parse("0 2 * * *")
    again = times.next_run(cron, zone, handled)
    assert again is not None
    assert again.wall.day == 20
    found = times.next_run(cron, zone, handled, wall=datetime.fromisoformat("2026-11-20T02:00"))
    assert found is not None
    assert found.at == datetime(2026, 11, 21, 0, tzinfo=UTC)
