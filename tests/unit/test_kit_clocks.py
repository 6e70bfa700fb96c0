"""What the drills' kit allows a slow machine has a bound."""

from __future__ import annotations

import itertools
from functools import partial
from types import SimpleNamespace

import pytest

from tests.kit.crooked import Asked, Crooked
from tests.kit.drill import boot_ns
from tests.kit.processes import slowness
from tests.kit.scenarios import loads
from tests.kit.scenarios.accounts import asked_too_often


@pytest.mark.parametrize(("wall_s", "expected"), [(0.2, 1.0), (0.5, 2.5), (20.0, 6.0)])
def test_a_machine_may_be_slow_up_to_a_bound(wall_s: float, expected: float, monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = SimpleNamespace(
        thread_time=itertools.count(0.0, 0.25).__next__, monotonic=itertools.count(0.0, wall_s).__next__
    )
    monkeypatch.setattr("tests.kit.processes.time", clocks)
    assert slowness() == pytest.approx(expected)


def test_a_line_that_was_late_once_is_excused_for_what_came_then_and_for_nothing_later() -> None:
    line, now_ns = Crooked(""), boot_ns()
    assert line.lag_s == 0
    line.lags.append((now_ns, 0.02))
    line.lags.appendleft((now_ns - 60 * 10**9, 3.0))
    assert line.lag_s == 0.02
    line.lags.append((now_ns, 0.5))
    assert line.lag_s == 0.5


def test_who_asks_too_often_is_told_of_although_the_line_was_late_a_little() -> None:
    def asked(*times_s: float, lag_s: float) -> list[Asked]:
        return [Asked(n, int(at_s * 1e9), "", "", lag_s) for n, at_s in enumerate(times_s, 1)]

    judge = partial(asked_too_often, "F53", first=1, window_s=1.0, is_renewed=True)
    assert judge(asked(0.0, 1.0, 2.0, lag_s=0.0)) == []
    assert judge(asked(0.0, 0.7, 2.0, lag_s=0.3)) == []
    assert len(judge(asked(0.0, 0.5, 2.0, lag_s=0.3))) == 1


@pytest.mark.parametrize(("took_s", "found"), [(34.0, 0), (36.0, 1)])
def test_a_worker_that_ends_well_long_after_its_time_is_late(
    took_s: float, found: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loads, "slowness", lambda: 1.0)
    assert len(loads.ended_late("worker", took_s, grace_s=20.0)) == found
