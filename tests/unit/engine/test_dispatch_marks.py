from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from outrider.base.ids import NIL
from outrider.engine.dispatch.marks import FIRST, LIFE_S, LONGEST_LIFE_S, Mark, Marks

MARK: Mark = (5, datetime(2026, 1, 1, tzinfo=UTC), UUID(int=7))
LATER: Mark = (5, datetime(2026, 1, 2, tzinfo=UTC), UUID(int=8))


def test_a_lane_without_a_mark_is_looked_at_from_the_start() -> None:
    assert Marks().get(1, 50.0) == FIRST == (-1, datetime(2000, 1, 1, tzinfo=UTC), NIL)


def test_a_mark_holds_for_one_second_from_the_look_from_the_start() -> None:
    marks = Marks()
    marks.put(1, MARK, 50.0, looked_s=0.002)
    marks.put(1, LATER, 50.9)
    assert marks.get(1, 50.99) == LATER
    assert marks.get(1, 51.0) == FIRST, "rows released before the mark wait a second at most"
    marks.put(1, LATER, 51.2, looked_s=0.02)
    assert marks.get(1, 52.1) == LATER
    assert marks.get(1, 52.2) == FIRST
    assert marks.get(2, 52.1) == FIRST


def test_a_mark_holds_longer_while_looking_from_the_start_is_dear() -> None:
    marks = Marks()
    marks.put(1, MARK, 50.0, looked_s=0.05)
    marks.put(1, LATER, 52.0)
    assert marks.get(1, 52.49) == LATER
    assert marks.get(1, 52.5) == FIRST
    marks.put(1, MARK, 52.5, looked_s=0.001)
    assert marks.get(1, 53.5) == FIRST, "it is cheap again"
    marks.put(1, MARK, 60.0, looked_s=3.0)
    assert marks.get(1, 64.9) == MARK
    assert marks.get(1, 65.0) == FIRST, "nothing waits longer than five seconds"


@given(st.lists(st.floats(0.0, 0.1), min_size=1, max_size=20))
def test_looks_from_the_start_take_a_fiftieth_of_the_time_at_most(costs_s: list[float]) -> None:
    marks, now_s, looked = Marks(), 1000.0, 0.0
    for cost_s in costs_s:
        began_s = now_s
        marks.put(1, MARK, now_s, looked_s=cost_s)
        looked += cost_s
        while marks.get(1, now_s) == MARK:
            marks.put(1, MARK, now_s)
            now_s += 0.01
        assert LIFE_S <= now_s - began_s + 1e-6 <= LONGEST_LIFE_S + 0.02
    assert looked <= (now_s - 1000.0) / 50 + 1e-6


def test_dropping_a_mark_tells_whether_there_was_one() -> None:
    marks = Marks()
    assert marks.drop(1) is False
    marks.put(1, MARK, 50.0)
    assert marks.drop(1) is True
    assert marks.get(1, 50.0) == FIRST
