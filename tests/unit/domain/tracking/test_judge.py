"""Judging: people once, machines apart, and why."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from outrider.domain.tracking.judge import ANY, CLICK, OPEN, Facts, Hit, Response, Rules, judged

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
ONE, TWO = UUID(int=1), UUID(int=2)
RULES = Rules(soon_s=2.0, burst_s=2.0)


def facts(*, opens: bool = True, clicks: bool = True, finished_at: datetime | None = NOON) -> Facts:
    return Facts(7, UUID(int=9), UUID(int=8), "a.example", finished_at, opens, clicks)


def hit(after_s: float, kind: int = CLICK, link: int = 5, machine: str = "", message: UUID = ONE, n: int = 1) -> Hit:
    return Hit(message, NOON + timedelta(seconds=after_s), kind, link if kind == CLICK else ANY, machine, n)


def told(responses: list[Response]) -> set[tuple[int, int, str, int]]:
    return {(each.kind, each.link, each.machine, each.hits) for each in responses}


def test_a_click_counts_for_its_link_and_for_its_message() -> None:
    found = judged([hit(60), hit(70), hit(80, link=6)], {ONE: facts()}, RULES)
    assert told(found) == {(CLICK, ANY, "", 3), (CLICK, 5, "", 2), (CLICK, 6, "", 1)}
    (whole,) = [each for each in found if each.link == ANY]
    assert (whole.first_at, whole.last_at) == (NOON + timedelta(seconds=60), NOON + timedelta(seconds=80))


def test_people_and_machines_of_one_message_are_apart() -> None:
    found = judged([hit(60, OPEN), hit(61, OPEN, machine="agent", n=4)], {ONE: facts()}, RULES)
    assert told(found) == {(OPEN, ANY, "", 1), (OPEN, ANY, "agent", 4)}


def test_what_comes_with_the_delivery_is_a_machine_and_what_comes_later_is_not() -> None:
    assert told(judged([hit(1.9, OPEN)], {ONE: facts()}, RULES)) == {(OPEN, ANY, "too_soon", 1)}
    assert told(judged([hit(2.0, OPEN)], {ONE: facts()}, RULES)) == {(OPEN, ANY, "", 1)}
    assert told(judged([hit(-9, OPEN)], {ONE: facts()}, RULES)) == {(OPEN, ANY, "too_soon", 1)}
    assert told(judged([hit(60, OPEN)], {ONE: facts(finished_at=None)}, RULES)) == {(OPEN, ANY, "too_soon", 1)}


def test_three_links_within_the_time_are_a_burst_and_two_or_slower_ones_are_not() -> None:
    quick = [hit(60 + at / 2, link=at + 1) for at in range(3)]
    assert {each.machine for each in judged(quick, {ONE: facts()}, RULES)} == {"burst"}
    assert {each.machine for each in judged(quick[:2], {ONE: facts()}, RULES)} == {""}
    slow = [hit(60 + at * 1.5, link=at + 1) for at in range(3)]
    assert {each.machine for each in judged(slow, {ONE: facts()}, RULES)} == {""}
    again = [hit(60 + at / 10, link=1) for at in range(9)]
    assert {each.machine for each in judged(again, {ONE: facts()}, RULES)} == {""}, "one link, clicked impatiently"


def test_a_burst_on_one_message_says_nothing_of_another_and_leaves_openings_alone() -> None:
    hits = [hit(60 + at / 2, link=at + 1) for at in range(3)] + [hit(60, OPEN), hit(60, message=TWO)]
    found = judged(hits, {ONE: facts(), TWO: facts()}, RULES)
    assert {each.machine for each in found if each.message_id == TWO or each.kind == OPEN} == {""}


def test_what_is_switched_off_or_gone_adds_nothing() -> None:
    assert judged([hit(60), hit(60, OPEN)], {}, RULES) == []
    assert {each.kind for each in judged([hit(60), hit(60, OPEN)], {ONE: facts(clicks=False)}, RULES)} == {OPEN}
    assert judged([hit(60, OPEN)], {ONE: facts(opens=False)}, RULES) == []


@given(
    st.lists(
        st.builds(
            hit,
            st.floats(0, 100),
            st.sampled_from([OPEN, CLICK]),
            st.integers(1, 4),
            st.sampled_from(["", "agent"]),
            st.sampled_from([ONE, TWO]),
            st.integers(1, 9),
        ),
        max_size=30,
    )
)
def test_no_hit_is_lost_or_counted_twice_whatever_comes(hits: list[Hit]) -> None:
    found = judged(hits, {ONE: facts(), TWO: facts()}, RULES)
    assert len({each.key for each in found}) == len(found)
    assert sum(each.hits for each in found if each.link == ANY) == sum(each.n for each in hits)
    of_links = sum(each.hits for each in found if each.link != ANY)
    assert of_links == sum(each.n for each in hits if each.kind == CLICK)
    assert judged(list(reversed(hits)), {ONE: facts(), TWO: facts()}, RULES) is not None
