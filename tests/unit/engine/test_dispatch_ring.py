from __future__ import annotations

import math
from collections import Counter
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from outrider.contracts.gate import Lane, MessageClass
from outrider.engine.dispatch.ring import Ring


class Clock:
    """Time stands still unless the test moves it."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def lane(tenant: int, number: int, message_class: MessageClass = "transactional") -> Lane:
    return Lane(UUID(int=tenant), number, "email", UUID(int=number), None, message_class)


def ring(*lanes: Lane, clock: Clock | None = None) -> Ring:
    made = Ring(clock or Clock())
    made.renew(lanes)
    return made


def turns(of: Ring, count: int) -> list[int]:
    served = [of.next(lambda _lane: False) for _ in range(count)]
    return [one.id for one in served if one is not None]


def test_a_tenant_with_a_thousand_lanes_has_one_turn_like_a_tenant_with_one() -> None:
    served = turns(ring(*(lane(1, n) for n in range(1000)), lane(2, 5000), lane(3, 6000)), 300)
    share = Counter("great" if number < 1000 else number for number in served)
    assert share == {"great": 100, 5000: 100, 6000: 100}


def test_lanes_of_a_tenant_take_turns() -> None:
    assert Counter(turns(ring(lane(1, 1), lane(1, 2), lane(1, 3)), 30)) == {1: 10, 2: 10, 3: 10}


def test_transactional_goes_first_and_bulk_still_gets_every_fourth_turn() -> None:
    served = turns(ring(lane(1, 1), lane(1, 2, "bulk")), 40)
    assert Counter(served) == {1: 30, 2: 10}
    assert all(2 in served[at : at + 4] for at in range(0, 40, 4))


def test_a_class_without_work_leaves_its_turns_to_the_other() -> None:
    assert turns(ring(lane(1, 2, "bulk")), 5) == [2] * 5
    assert turns(ring(lane(1, 1)), 5) == [1] * 5


def test_a_new_directory_keeps_whose_turn_it_was() -> None:
    lanes = [lane(tenant, tenant) for tenant in range(1, 6)]
    made = ring(*lanes)
    served = []
    for _ in range(20):
        served += turns(made, 1)
        made.renew(lanes)
    assert Counter(served) == dict.fromkeys(range(1, 6), 4)


def test_a_newcomer_is_served_before_those_that_had_their_turn() -> None:
    made = ring(lane(1, 1), lane(2, 2))
    turns(made, 2)
    made.renew([lane(1, 1), lane(2, 2), lane(3, 3)])
    assert turns(made, 1) == [3]


def test_lanes_that_have_left_the_directory_are_not_served() -> None:
    made = ring(lane(1, 1), lane(2, 2))
    made.renew([lane(2, 2)])
    assert turns(made, 4) == [2] * 4
    made.renew([])
    assert turns(made, 4) == []


def test_a_resting_lane_is_left_out_until_its_time() -> None:
    clock = Clock()
    made = ring(lane(1, 1), lane(2, 2), clock=clock)
    made.rest(lane(1, 1), 5.0)
    assert turns(made, 3) == [2, 2, 2]
    clock.now_s += 5.0
    assert Counter(turns(made, 4)) == {1: 2, 2: 2}


def test_a_short_rest_does_not_end_a_longer_one() -> None:
    clock = Clock()
    made = ring(lane(1, 1), clock=clock)
    made.rest(lane(1, 1), 60.0)
    made.rest(lane(1, 1), 0.05)
    clock.now_s += 1.0
    made.renew([lane(1, 1)])
    assert turns(made, 1) == []


def test_a_woken_lane_is_served_at_once() -> None:
    made = ring(lane(1, 1))
    made.rest(lane(1, 1), 60.0)
    made.wake(lane(1, 1))
    made.wake(lane(9, 9))
    assert turns(made, 1) == [1]


def test_a_stopped_lane_costs_its_tenant_nothing_but_that_lane() -> None:
    made = ring(lane(1, 1), lane(1, 2))
    served = [made.next(lambda candidate: candidate.id == 1) for _ in range(3)]
    assert [one.id for one in served if one] == [2, 2, 2]
    assert made.next(lambda _lane: True) is None


def test_of_a_crowded_class_no_lane_is_gone_through_and_none_loses_its_turn() -> None:
    lanes = [lane(tenant, tenant) for tenant in range(1, 6)]
    made = ring(*lanes, lane(9, 9, "bulk"))
    order = turns(made, 3)
    asked: list[int] = []

    def note(candidate: Lane) -> bool:
        asked.append(candidate.id)
        return False

    for _ in range(4):
        served = made.next(note, lambda name: name == "transactional")
        assert served is not None
        assert served.id == 9
    assert set(asked) == {9}
    assert made.next(note, lambda _class: True) is None
    following = [number for number in turns(made, 8) if number != 9][:5]
    assert sorted(following) == [1, 2, 3, 4, 5]
    assert following[-3:] == [number for number in order if number != 9], "who was served goes last"


def test_a_directory_that_names_the_same_lane_again_keeps_it_and_one_that_names_another_does_not() -> None:
    made = ring(lane(1, 1), lane(2, 2))
    made.renew([lane(1, 1), lane(2, 3, "bulk")])
    assert set(turns(made, 8)) == {1, 3}


@given(
    st.lists(st.tuples(st.integers(1, 6), st.integers(1, 30), st.booleans()), max_size=30, unique_by=lambda t: t[1]),
    st.sets(st.integers(1, 30)),
)
def test_every_lane_that_may_go_is_served_within_four_rounds_and_no_other(
    given_lanes: list[tuple[int, int, bool]], stopped: set[int]
) -> None:
    lanes = [lane(tenant, number, "bulk" if is_bulk else "transactional") for tenant, number, is_bulk in given_lanes]
    made = ring(*lanes)
    may_go = {one.id for one in lanes} - stopped
    most = max((Counter(one.tenant_id for one in lanes)).values(), default=0)
    tenants = len({one.tenant_id for one in lanes})
    served = {
        one.id
        for _ in range(4 * (most + 1) * (tenants + 1) * 2)
        if (one := made.next(lambda candidate: candidate.id in stopped)) is not None
    }
    assert served == may_go


def test_a_drained_lane_is_left_out_until_a_directory_names_it_again() -> None:
    lanes = [lane(1, 1), lane(2, 2)]
    of = ring(*lanes)
    of.drop(lanes[0], reading=of.reading)
    assert turns(of, 3) == [2, 2, 2]
    of.renew(lanes)
    assert set(turns(of, 2)) == {1, 2}


def test_the_few_transactional_lanes_that_were_emptied_last_can_be_asked_before_the_next_directory() -> None:
    lanes = [lane(tenant, tenant) for tenant in range(1, 8)]
    campaign = lane(1, 100, "bulk")
    of = ring(*lanes, campaign)
    for one in (*lanes, campaign):
        of.drop(one, reading=of.reading)
    assert turns(of, 3) == []
    of.revive()
    assert set(turns(of, 30)) == {4, 5, 6, 7}


def test_a_lane_that_the_directory_left_out_is_asked_once_for_each_bell() -> None:
    single, campaign = lane(1, 1), lane(2, 2, "bulk")
    of = ring(single, campaign)
    of.drop(single, reading=of.reading)
    of.renew([campaign])
    of.revive()
    assert turns(of, 1) == [1]
    of.drop(single, reading=of.reading)
    assert turns(of, 3) == [2, 2, 2]
    of.renew([single, campaign])
    of.revive()
    assert Counter(turns(of, 8)) == {1: 6, 2: 2}, "it has one place, however often it was named"


def test_a_lane_that_was_named_again_while_it_was_looked_at_is_not_forgotten() -> None:
    busy, other = lane(1, 1), lane(2, 2)
    of = ring(busy, other)
    before = of.reading
    of.renew([busy, other])
    of.drop(busy, reading=before)
    assert set(turns(of, 2)) == {1, 2}, "the directory was read after it had been found empty"
    of.drop(busy, reading=of.reading)
    before = of.reading
    of.revive()
    of.drop(busy, reading=before)
    assert set(turns(of, 2)) == {1, 2}, "somebody told of something new after it had been found empty"


def test_a_lane_that_the_directory_left_out_while_it_was_looked_at_is_asked_at_the_next_bell() -> None:
    single, campaign = lane(1, 1), lane(2, 2, "bulk")
    of = ring(single, campaign)
    before = of.reading
    of.renew([campaign])
    of.drop(single, reading=before)
    of.revive()
    assert turns(of, 1) == [1]


def test_lanes_that_nobody_has_emptied_are_told_for_the_next_directory() -> None:
    made = ring(lane(1, 1), lane(1, 2, "bulk"), lane(2, 3))
    made.drop(lane(1, 2, "bulk"), reading=made.reading)
    assert sorted(made.with_work()) == [1, 3]


def test_a_feeder_with_nothing_to_do_waits_for_the_first_lane_that_has_rested() -> None:
    clock = Clock()
    made = ring(lane(1, 1), lane(2, 2), clock=clock)
    assert made.rests_for_s() == math.inf
    made.rest(lane(1, 1), 0.5)
    made.rest(lane(2, 2), 2.0)
    assert made.rests_for_s() == 0.5
    clock.now_s += 0.5
    assert turns(made, 1) == [1]
    assert made.rests_for_s() == 1.5, "who has rested enough is not waited for"
