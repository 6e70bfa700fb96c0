"""Warm-up plans: what a day has room for, how a plan goes on, and how long so many messages take."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from uuid import uuid4

import pytest

from outrider.base.errors import Refused
from outrider.domain.limits.allowances import Health, Standing, day_of, hour_end, next_day
from outrider.domain.limits.plans import MOST_STEPS, OWN, PLANS, Step, days_for, steps_of

NOW = datetime(2026, 11, 21, 10, 20, tzinfo=UTC)
BEGINS, ENDS = day_of("UTC", NOW.date())
STANDING = Standing(
    uuid4(), uuid4(), (Step(100), Step(200, 50), Step(400)), "running", 2, NOW.date(), NOW.date(), BEGINS, ENDS, 0,
    hour_end(NOW), 0, is_transactional_exempt=False, reserve_percent=10, most_bounces_percent=5.0,
    most_complaints_percent=0.1,
)  # fmt: skip
WELL = Health(1000, 0, 0)


@pytest.mark.parametrize(
    ("day_sent", "hour_sent", "room"), [(0, 0, 50), (0, 30, 20), (170, 0, 30), (200, 0, 0), (190, 50, 0), (260, 0, 0)]
)
def test_the_narrower_of_day_and_hour_is_what_there_is_room_for(day_sent: int, hour_sent: int, room: int) -> None:
    assert replace(STANDING, day_sent=day_sent, hour_sent=hour_sent).room("transactional") == room


def test_bulk_leaves_what_waits_and_a_share_of_the_day_to_transactional_messages() -> None:
    third = replace(STANDING, step=3, day_sent=350)
    assert third.room("bulk") == 50
    assert third.room("bulk", urgent=20) == 30
    assert third.room("bulk", has_urgent=True) == 10
    assert third.room("bulk", urgent=30, has_urgent=True) == 10
    assert third.room("transactional", has_urgent=True) == 50
    assert replace(third, is_transactional_exempt=True).room("bulk", urgent=30, has_urgent=True) == 50


def test_what_is_held_says_on_which_day_how_much_was_sent_and_until_when() -> None:
    third = replace(STANDING, step=3, day_sent=380)
    assert third.why(20) == (ENDS, "day 3 of 3: 400 of 400 sent")
    assert third.why(0) == (ENDS, "day 3 of 3: 380 of 400 sent, the rest is kept for transactional messages")
    assert replace(STANDING, hour_sent=30).why(20) == (hour_end(NOW), "day 2 of 3: 50 of 50 sent in this hour")
    late = replace(STANDING, hour_ends_at=ENDS + timedelta(minutes=30), hour_sent=50)
    assert late.why(0)[0] == ENDS, "a day that ends within the hour ends it"


def test_a_day_that_was_used_takes_the_plan_a_step_further() -> None:
    after = next_day(replace(STANDING, day_sent=1), ENDS, "UTC", WELL)
    assert (after.step, after.state, after.day_sent, after.day_on) == (3, "running", 0, date(2026, 11, 22))
    assert (after.day_began_at, after.day_ends_at) == day_of("UTC", date(2026, 11, 22))


def test_a_day_on_which_nothing_was_sent_is_not_one_of_the_plan() -> None:
    assert next_day(STANDING, ENDS + timedelta(days=9), "UTC", WELL).step == 2


def test_a_plan_that_rests_stays_on_its_step() -> None:
    after = next_day(replace(STANDING, state="paused", day_sent=200), ENDS, "UTC", WELL)
    assert (after.step, after.state, after.day_sent) == (2, "paused", 0)


def test_the_last_day_ends_the_plan() -> None:
    assert next_day(replace(STANDING, step=3, day_sent=1), ENDS, "UTC", WELL).state == "finished"


@pytest.mark.parametrize(
    ("health", "step", "note"),
    [
        (Health(200, 10, 0), 3, ""),
        (Health(200, 11, 0), 2, "stays on day 2: 5.5 % bounced, more than 5 %"),
        (Health(200, 0, 1), 2, "stays on day 2: 0.5 % complained, more than 0.1 %"),
        (Health(19, 19, 19), 3, ""),
    ],
)
def test_a_day_on_which_too_much_came_back_is_done_again(health: Health, step: int, note: str) -> None:
    after = next_day(replace(STANDING, day_sent=200), ENDS, "UTC", health)
    assert (after.step, after.note) == (step, note)


@pytest.mark.parametrize(
    ("zone", "on", "hours"),
    [
        ("Europe/Berlin", date(2026, 10, 25), 25),
        ("Europe/Berlin", date(2026, 3, 29), 23),
        ("Nowhere/City", NOW.date(), 24),
    ],
)
def test_a_day_is_the_zones_through_changes_of_its_clocks(zone: str, on: date, hours: int) -> None:
    begins, ends = day_of(zone, on)
    assert ends - begins == timedelta(hours=hours)


@pytest.mark.parametrize(
    ("step", "sent", "count", "days"),
    [(1, 0, 100, 0), (1, 100, 1, 1), (1, 0, 300, 1), (1, 0, 301, 2), (1, 0, 700, 2), (1, 0, 10**6, 3), (3, 400, 5, 1)],
)
def test_how_many_further_days_so_many_messages_take(step: int, sent: int, count: int, days: int) -> None:
    assert days_for(STANDING.steps, step, sent, count) == days


@pytest.mark.parametrize("plan", PLANS)
def test_named_plans_rise_from_day_to_day(plan: str) -> None:
    steps = steps_of(plan, None)
    assert [step.per_day for step in steps] == sorted({step.per_day for step in steps})
    assert all(step.per_hour is None or step.per_hour < step.per_day for step in steps)


@pytest.mark.parametrize(
    ("plan", "steps", "code"),
    [
        ("fast", None, "unknown_plan"),
        ("standard", [Step(1)], "invalid_steps"),
        (OWN, None, "invalid_steps"),
        (OWN, [], "invalid_steps"),
        (OWN, [Step(1)] * (MOST_STEPS + 1), "invalid_steps"),
        (OWN, [Step(0)], "invalid_steps"),
        (OWN, [Step(10**9)], "invalid_steps"),
        (OWN, [Step(10, 11)], "invalid_steps"),
        (OWN, [Step(10, 0)], "invalid_steps"),
    ],
)
def test_plans_that_make_no_sense_are_refused(plan: str, steps: list[Step] | None, code: str) -> None:
    with pytest.raises(Refused) as caught:
        steps_of(plan, steps)
    assert caught.value.code == code
