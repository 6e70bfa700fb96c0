"""The demonstration's third act: at every hour somebody is awake and somebody asleep, and each figure can be wrong."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from outrider.interfaces.cli.demonstration.texts import ASLEEP, AWAKE, FIRST_BUDGET_CENTS, Texted, people, prove, zones
from outrider.plugins.channels.sms import CHANNEL

NOW = datetime(2026, 11, 21, 7, 30, tzinfo=UTC)
ROWS = people(NOW)
AWAKE_NUMBERS = [number for number, _, _ in ROWS[:AWAKE]]
GOOD = Texted(
    first_taken=20,
    first_spent_cents=FIRST_BUDGET_CENTS,
    held={"quiet_hours": ASLEEP, "budget": 20},
    stopped=AWAKE_NUMBERS[-1],
    stop_ms=40.0,
    reply="You are unsubscribed.",
    taken=AWAKE_NUMBERS[:-1],
    spent_cents=5 * (AWAKE - 1),
    states={"delivered": AWAKE - 1, "blocked": 1, "held": ASLEEP},
    blocked=[AWAKE_NUMBERS[-1]],
)


def _wrong(texted: Texted) -> set[str]:
    return {line.name for line in prove(texted) if not line.is_right}


def test_at_every_hour_of_two_years_it_is_day_in_one_zone_and_night_in_another() -> None:
    moment = datetime(2026, 1, 1, 0, 30, tzinfo=UTC)
    for _ in range(2 * 366 * 24):
        awake, asleep = zones(moment)
        assert 10 <= moment.astimezone(ZoneInfo(awake)).hour < 20
        assert not 8 <= moment.astimezone(ZoneInfo(asleep)).hour < 22, "an hour away from the end of the night"
        moment += timedelta(hours=1)


def test_every_number_is_one_and_nobodys_twice() -> None:
    numbers = [CHANNEL.normalise(number) for number, _, _ in ROWS]
    assert len(set(numbers)) == AWAKE + ASLEEP
    assert numbers == [number for number, _, _ in ROWS]
    assert {zone for _, _, zone in ROWS[:AWAKE]} == {zones(NOW)[0]}


def test_what_went_as_it_should_adds_up() -> None:
    assert _wrong(GOOD) == set()


def test_every_figure_can_be_wrong() -> None:
    assert _wrong(replace(GOOD, first_taken=21)) == {"texts within the budget"}
    assert _wrong(replace(GOOD, first_spent_cents=101)) == {"cents spent of it"}
    assert _wrong(replace(GOOD, held={"budget": 40})) == {"texts held at night", "texts held: budget"}
    assert _wrong(replace(GOOD, blocked=[])) == {"said stop, not sent"}
    assert "said stop, not sent" in _wrong(replace(GOOD, taken=AWAKE_NUMBERS))
    assert _wrong(replace(GOOD, taken=AWAKE_NUMBERS[:-2])) == {"texts after the raise"}
    assert _wrong(replace(GOOD, taken=[*AWAKE_NUMBERS[:-2], AWAKE_NUMBERS[0]])) == {"texts doubled"}
    assert _wrong(replace(GOOD, spent_cents=200)) == {"cents spent at last"}
    assert _wrong(replace(GOOD, states={"sent": 39})) == {"delivered"}
