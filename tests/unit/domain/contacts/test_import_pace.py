"""An import is considerate until it has seen that it is alone, and again as soon as it is not."""

from __future__ import annotations

from outrider.domain.contacts.imports.pace import LONGEST_REST_S, LOOK_BACK_S, OTHERS_PER_S, REST_SHARE, Pace


def looked(*marks: tuple[float, int]) -> Pace:
    pace = Pace()
    for at_s, written in marks:
        pace.look(written, at_s=at_s)
    return pace


def test_it_rests_from_the_beginning() -> None:
    assert not looked((0.0, 500)).is_alone
    assert looked((0.0, 500)).rest_s(0.5) == 0.5 * REST_SHARE


def test_a_batch_that_waited_for_the_database_is_not_followed_by_as_long_a_rest() -> None:
    assert looked((0.0, 500)).rest_s(900.0) == LONGEST_REST_S <= 10


def test_who_has_seen_nobody_for_long_enough_goes_at_full_speed() -> None:
    assert not looked((0.0, 500), (LOOK_BACK_S / 2, 500)).is_alone
    pace = looked((0.0, 500), (LOOK_BACK_S, 500))
    assert pace.is_alone
    assert pace.rest_s(0.5) == 0


def test_others_who_come_later_are_noticed_and_forgotten_when_they_have_gone() -> None:
    busy = int(2 * OTHERS_PER_S * LOOK_BACK_S)
    pace = looked((0.0, 0), (LOOK_BACK_S, 0), (LOOK_BACK_S + 0.5, busy))
    assert not pace.is_alone
    pace.look(busy, at_s=2 * LOOK_BACK_S + 0.5)
    assert pace.is_alone


def test_what_was_long_ago_does_not_count_as_now() -> None:
    busy = int(2 * OTHERS_PER_S * LOOK_BACK_S)
    pace = looked((0.0, 0), (100.0, 20 * busy), (100.0 + LOOK_BACK_S, 20 * busy))
    assert pace.is_alone


def test_a_server_that_lost_its_counters_tells_nothing_yet() -> None:
    pace = looked((0.0, 900), (LOOK_BACK_S, 900), (LOOK_BACK_S + 1, 3))
    assert not pace.is_alone
    pace.look(3, at_s=2 * LOOK_BACK_S + 1)
    assert pace.is_alone
