"""Public holidays: by country and part, in every year asked for, and nothing for a place that has no calendar."""

from __future__ import annotations

from datetime import date

import pytest

from outrider.data.holiday_calendar import Calendar, problem_of


def test_a_country_has_its_holidays_and_a_part_has_more() -> None:
    assert Calendar(("DE",)).name_of(date(2026, 10, 3)) == "German Unity Day (DE)"
    assert Calendar(("DE",)).name_of(date(2027, 1, 6)) is None
    assert Calendar(("DE-BY",)).name_of(date(2027, 1, 6)) == "Epiphany (DE-BY)"
    assert Calendar(("DE", "FR")).name_of(date(2031, 7, 14)) is not None, "any of them, in any year"


def test_a_day_moved_to_a_working_day_counts() -> None:
    # the 4th of July 2026 is a Saturday
    assert Calendar(("US",)).name_of(date(2026, 7, 3)) is not None


@pytest.mark.parametrize("place", ["XX", "DE-XX", "US-ZZ", "de", "", "../.."])
def test_a_place_without_a_calendar_says_so_and_has_no_holidays(place: str) -> None:
    assert problem_of(place)
    assert Calendar((place,)).name_of(date(2026, 10, 3)) is None


def test_equal_calendars_are_remembered_as_one() -> None:
    assert hash(Calendar(("DE",))) == hash(Calendar(("DE",)))
    assert problem_of("DE-BY") is None
