"""Misfire policies: what runs, what is missed, and that a leap of the clock never lets a pile run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from outrider.domain.schedules.misfire import MOST_RUNS, judge
from outrider.domain.schedules.times import Planned

NOW = datetime(2026, 11, 20, 12, 0, 10, tzinfo=UTC)
GRACE = timedelta(minutes=1)


def due(*minutes_ago: float) -> list[Planned]:
    moments = [NOW - timedelta(minutes=ago) for ago in minutes_ago]
    return [Planned(moment, moment.replace(tzinfo=None)) for moment in moments]


@pytest.mark.parametrize("policy", ["once", "all", "skip"])
def test_a_planned_time_within_its_grace_runs_under_every_policy(policy: str) -> None:
    verdict = judge(due(0.5), NOW, policy, grace=GRACE)
    assert (len(verdict.run), len(verdict.missed), len(verdict.late)) == (1, 0, 0)


@pytest.mark.parametrize(
    ("policy", "run", "missed", "late"),
    [("once", (15,), (75, 135), 1), ("all", (135, 75, 15), (), 3), ("skip", (), (135, 75, 15), 0)],
)
def test_after_an_outage_the_policy_decides(
    policy: str, run: tuple[int, ...], missed: tuple[int, ...], late: int
) -> None:
    verdict = judge(due(135, 75, 15), NOW, policy, grace=GRACE)
    assert list(verdict.run) == due(*run)
    assert set(verdict.missed) == set(due(*missed))
    assert list(verdict.missed) == sorted(verdict.missed)
    assert len(verdict.late) == late


def test_skip_still_runs_the_latest_one_when_it_is_on_time() -> None:
    verdict = judge(due(120, 60, 0.5), NOW, "skip", grace=GRACE)
    assert list(verdict.run) == due(0.5)
    assert len(verdict.missed) == 2


def test_all_makes_up_for_a_bounded_number() -> None:
    many = due(*range(100, 0, -1))
    verdict = judge(many, NOW, "all", grace=GRACE)
    assert list(verdict.run) == many[-MOST_RUNS:]
    assert list(verdict.missed) == many[:-MOST_RUNS]


@pytest.mark.parametrize(("policy", "count"), [("once", 1), ("all", 1), ("skip", 0)])
def test_a_leap_of_the_clock_makes_up_for_one_run_at_most(policy: str, count: int) -> None:
    verdict = judge(due(90, 60, 30), NOW, policy, grace=GRACE, is_clock_jump=True)
    assert len(verdict.run) == count
    assert len(verdict.run) + len(verdict.missed) == 3


def test_nothing_due_is_nothing_to_do() -> None:
    verdict = judge([], NOW, "all", grace=GRACE)
    assert not verdict.run
    assert not verdict.missed
