"""What happens to planned times when they are looked at: run, run late, or recorded as missed. Pure.

Owns the three policies; never reads a clock or a table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, get_args

from outrider.domain.schedules.times import Planned

Policy = Literal["once", "all", "skip"]
POLICIES: tuple[str, ...] = get_args(Policy)
MOST_RUNS = 20
"""Planned times that `all` makes up for at most; older ones are recorded as missed."""
MOST_RECORDED = 100
"""Planned times looked back for, so missed ones recorded one by one; of a longer absence the latest."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of the planned times that are due.

    run     to be run, oldest first; all but the first wait for the one before
    missed  not to be run by themselves, oldest first
    late    those of `run` that come later than their grace
    """

    run: tuple[Planned, ...]
    missed: tuple[Planned, ...]
    late: frozenset[datetime]


def judge(
    due: Sequence[Planned], now: datetime, policy: str, *, grace: timedelta, is_clock_jump: bool = False
) -> Verdict:
    """Decide about planned times that have come, ascending.

    `once`  the latest runs, late or not; what came before it was missed
    `all`   each runs, one after the other, the latest MOST_RUNS of them
    `skip`  the latest runs if it is within its grace; what is later was missed

    Takes:   is_clock_jump  the database's clock leapt while schedulers were running: nobody was away, so nothing piled
                            up, and at most one run is made up for whatever the policy says [R48, F79]
    """
    if not due:
        return Verdict((), (), frozenset())
    late = frozenset(planned.at for planned in due if now - planned.at > grace)
    if policy == "all" and not is_clock_jump:
        count = MOST_RUNS
    elif policy == "skip" and due[-1].at in late:
        count = 0
    else:
        count = 1
    split = max(0, len(due) - count)
    run = tuple(due[split:])
    return Verdict(run, tuple(due[:split]), late & frozenset(planned.at for planned in run))
