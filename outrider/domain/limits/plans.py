"""Warm-up plans: how many messages a sender may send on each day of its plan. Pure: no clock, no database.

Owns the named plans, what steps may be, and how long so many messages take.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from outrider.base.errors import Refused

MOST_STEPS = 90
MOST_PER_DAY = 10_000_000


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One day of a plan: at most so many messages, and of them so many in an hour (null: as many as come)."""

    per_day: int
    per_hour: int | None = None


def _days(*per_day: int) -> tuple[Step, ...]:
    return tuple(Step(count) for count in per_day)


OWN: Final = "own"
"""What a plan of somebody's own steps is called."""
PLANS: Final[Mapping[str, tuple[Step, ...]]] = {
    "standard": _days(50, 100, 200, 400, 700, 1_000, 1_500, 2_500, 4_000, 6_000, 10_000, 15_000, 25_000, 40_000),
    "gentle": _days(
        20, 30, 50, 75, 100, 150, 200, 300, 400, 500, 700, 900, 1_200, 1_500, 2_000, 2_500, 3_000, 4_000, 5_000,
        6_500, 8_000, 10_000, 13_000, 16_000, 20_000, 25_000, 30_000, 35_000, 40_000, 50_000,
    ),
    "texts": (
        Step(50, 10), Step(100, 20), Step(200, 40), Step(400, 80), Step(700, 150), Step(1_000, 250), Step(2_000, 500),
    ),
}  # fmt: skip
"""`standard`: a new mail domain or address; `gentle`: one that nobody knows yet; `texts`: a new number."""


def steps_of(plan: str, own: Sequence[Step] | None) -> tuple[Step, ...]:
    """The steps of a named plan, or somebody's own.

    Raises:  Refused(unknown_plan, invalid_steps), naming the step.
    """
    if plan != OWN:
        if plan not in PLANS:
            raise Refused("unknown_plan", f"must be one of {', '.join((*PLANS, OWN))}", field="/plan")
        if own:
            raise Refused("invalid_steps", f"the plan {plan} has steps of its own", field="/steps")
        return PLANS[plan]
    if not own or len(own) > MOST_STEPS:
        raise Refused("invalid_steps", f"must be 1 to {MOST_STEPS} steps", field="/steps")
    for at, step in enumerate(own):
        if not 1 <= step.per_day <= MOST_PER_DAY:
            raise Refused("invalid_steps", f"must be 1 to {MOST_PER_DAY:,}", field=f"/steps/{at}/per_day")
        if step.per_hour is not None and not 1 <= step.per_hour <= step.per_day:
            raise Refused("invalid_steps", "must be from 1 to what may go in the day", field=f"/steps/{at}/per_hour")
    return tuple(own)


def days_for(steps: Sequence[Step], step: int, sent_today: int, count: int) -> int:
    """How many further days so many messages take: 0 when all can go today; none is sent beyond a plan's end unbounded.

    Takes:   step: the day of the plan that today is, from 1; sent_today: what went today.
    """
    left = count - max(0, steps[step - 1].per_day - sent_today)
    days = 0
    for each in steps[step:]:
        if left <= 0:
            return days
        days += 1
        left -= each.per_day
    return days if left <= 0 else days + 1  # on the day after the last nothing is bounded any more


def kept_for_transactional(step: Step, reserve_percent: int) -> int:
    """How much of a day bulk leaves to transactional messages of the same sender."""
    return math.ceil(step.per_day * reserve_percent / 100)
