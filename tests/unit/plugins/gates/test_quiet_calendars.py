"""Quiet hours with calendars: held over public holidays, by the recipient's clock and country, in any summer time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from outrider.base.errors import RefusedMany
from outrider.base.fields import check
from outrider.contracts.gate import Candidate, Gate, Hold, Pass
from outrider.plugins.gates.quiet_hours import GATE

BERLIN = {"zone": "Europe/Berlin", "tenant_zone": "UTC"}


def quiet(calendars: str, **more: Any) -> Gate:
    """The gate with the holidays of places and the preset night."""
    return GATE.configured(check(GATE.fields, {"quiet_calendars": calendars, **more}))


def message(address: str = "+491701234567") -> Candidate:
    return Candidate(UUID(int=1), None, address, "marketing", None, 0)


def test_a_holiday_is_quiet_all_day_by_the_recipients_clock_and_named() -> None:
    noon = datetime(2027, 1, 6, 11, tzinfo=UTC)
    assert isinstance(quiet("DE").judge(BERLIN, message(), noon), Pass)
    held = quiet("DE-BY").judge(BERLIN, message(), noon)
    # the day ends at midnight, the night after it at nine
    assert held == Hold(datetime(2027, 1, 7, 8, tzinfo=UTC), "it is quiet in Europe/Berlin: Epiphany (DE-BY)")


def test_what_passes_before_a_holiday_may_go_until_it_begins() -> None:
    told = quiet("DE", quiet_hours="off").judge(BERLIN, message(), datetime(2027, 4, 30, 10, tzinfo=UTC))
    assert told == Pass(until=datetime(2027, 4, 30, 22, tzinfo=UTC)), "the 1st of May begins in summer time"


def test_holidays_around_a_change_of_clocks_end_at_the_right_instant() -> None:
    gate = quiet("DE")
    friday = gate.judge(BERLIN, message(), datetime(2027, 3, 26, 12, tzinfo=UTC))
    monday = gate.judge(BERLIN, message(), datetime(2027, 3, 29, 12, tzinfo=UTC))
    assert friday == Hold(datetime(2027, 3, 27, 8, tzinfo=UTC), "it is quiet in Europe/Berlin: Good Friday (DE)")
    assert monday == Hold(datetime(2027, 3, 30, 7, tzinfo=UTC), "it is quiet in Europe/Berlin: Easter Monday (DE)")


def test_the_recipients_own_country_decides_where_that_is_wished() -> None:
    gate = quiet("recipient", quiet_hours="off")
    sydney = {"zone": "Australia/Sydney", "tenant_zone": "UTC"}
    day = datetime(2027, 1, 26, 1, tzinfo=UTC)
    assert isinstance(gate.judge(sydney, message("+61412345678"), day), Hold)
    assert isinstance(gate.judge(sydney, message("+491701234567"), day), Pass)
    assert isinstance(gate.judge(sydney, message("ann@example.org"), day), Pass), "an address has no country"


def test_every_hour_of_a_year_is_held_exactly_when_the_wall_shows_a_holiday() -> None:
    gate = quiet("US-CA", quiet_hours="off")
    fact = {"zone": "America/Los_Angeles", "tenant_zone": "UTC"}
    now, days = datetime(2026, 12, 1, tzinfo=UTC), set()
    while now < datetime(2027, 12, 1, tzinfo=UTC):
        verdict = gate.judge(fact, message(), now)
        if isinstance(verdict, Hold):
            days.add(verdict.until)
            after = gate.judge(fact, message(), verdict.until)
            assert isinstance(after, Pass), "what is held goes when its hold ends"
            before = gate.judge(fact, message(), verdict.until - timedelta(seconds=1))
            assert isinstance(before, Hold)
        now += timedelta(hours=1)
    assert len(days) >= 11


@pytest.mark.parametrize("text", ["XX", "DE-ZZ", "de", "DE;FR", "Germany", "DE,XX"])
def test_a_place_that_has_no_calendar_is_refused_when_it_is_set(text: str) -> None:
    with pytest.raises(RefusedMany) as refused:
        quiet(text)
    assert [each.field for each in refused.value.errors] == ["settings.quiet_calendars"]
