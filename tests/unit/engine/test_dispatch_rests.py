"""Lanes that met their rate: how long they rest, and that lanes which share one rate all get their part of it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from typing import Any, cast
from uuid import UUID

import pytest

from outrider.contracts.gate import Lane, MessageClass
from outrider.domain.limits import rows as buckets
from outrider.engine.dispatch.pacing import LONGEST_REST_S, Throttled
from outrider.engine.dispatch.ring import Ring
from outrider.engine.dispatch.terms import Terms

TERMS = Terms((), {}, paced=frozenset({"tenant"}))
NOWHERE = cast("Any", None)


def lane(number: int, message_class: MessageClass = "transactional") -> Lane:
    return Lane(UUID(int=1), number, "email", UUID(int=2), None, message_class)


class Shared:
    """A bucket in virtual time, as the database has it."""

    def __init__(self, rate: float, cap: float) -> None:
        self.now_s = 1000.0
        self.tokens = 0.0
        self._rate, self._cap = rate, cap

    async def room(self, *_: Any, slice_s: float, most: int) -> tuple[int, float]:
        wanted = max(1.0, min(self._rate * slice_s, self._cap / 2, most))
        return int(self.tokens), (wanted - self.tokens) / self._rate

    def wait(self, seconds: float) -> None:
        self.now_s += seconds
        self.tokens = min(self._cap, self.tokens + seconds * self._rate)


async def got(monkeypatch: pytest.MonkeyPatch, rate: float, lanes: list[Lane], *, tokens: int) -> Counter[int]:
    """What each lane gets of so many tokens; `lanes[0]` has met the rate and taken all there was."""
    shared = Shared(rate, max(1.0, rate))
    monkeypatch.setattr(buckets, "room", shared.room)
    ring, throttled, seen = Ring(lambda: shared.now_s), Throttled(), Counter[int]()
    ring.renew(lanes)
    for each in lanes:
        ring.rest(each, await throttled.note(NOWHERE, each, TERMS, 500, is_met=True))
    while seen.total() < tokens:
        turn = ring.next(lambda _: False)
        if turn is None:
            shared.wait(0.001)
            continue
        count, rest_s = await throttled.ask(NOWHERE, turn, TERMS, 500)
        if count:
            shared.tokens -= count
            seen[turn.id] += count
            rest_s = await throttled.note(NOWHERE, turn, TERMS, 500, is_met=True)
        ring.rest(turn, rest_s)
        shared.wait(0.002)
    return seen


@pytest.fixture(autouse=True)
def _luck() -> Iterator[None]:
    """The same luck at every run, and that of other tests as it was."""
    state = random.getstate()
    random.seed("rests")
    yield
    random.setstate(state)


@pytest.mark.parametrize("rate", [0.4, 8.0, 1_000.0])
async def test_of_lanes_that_share_a_rate_each_gets_its_part(monkeypatch: pytest.MonkeyPatch, rate: float) -> None:
    tokens = int(max(120, rate * 30))
    seen = await got(monkeypatch, rate, [lane(number) for number in range(3)], tokens=tokens)
    assert min(seen[number] for number in range(3)) > tokens / 10, seen


@pytest.mark.parametrize("rate", [0.4, 8.0, 1_000.0])
async def test_transactional_lanes_get_more_of_a_shared_rate_than_bulk_and_do_not_starve_it(
    monkeypatch: pytest.MonkeyPatch, rate: float
) -> None:
    tokens = int(max(120, rate * 30))
    seen = await got(monkeypatch, rate, [lane(0, "bulk"), lane(1)], tokens=tokens)
    assert seen[1] > seen[0] > tokens / 40, seen


@pytest.mark.parametrize("message_class", ["transactional", "bulk"])
async def test_a_rest_is_what_the_rate_says_and_never_longer_than_a_second(
    monkeypatch: pytest.MonkeyPatch, message_class: MessageClass
) -> None:
    for rate, most_s in ((0.001, LONGEST_REST_S), (0.1, LONGEST_REST_S), (2.0, 0.625), (100.0, 0.3125), (1e5, 0.00625)):
        shared = Shared(rate, max(1.0, rate))
        monkeypatch.setattr(buckets, "room", shared.room)
        rests = [await Throttled().note(NOWHERE, lane(1, message_class), TERMS, 500, is_met=True) for _ in range(50)]
        assert most_s / 1.26 < min(rests) <= max(rests) <= most_s
        assert len(set(rests)) > 1, "luck decides who is first"


async def test_a_lane_that_has_not_met_its_rate_is_not_asked_before_the_pick(monkeypatch: pytest.MonkeyPatch) -> None:
    shared, throttled = Shared(1.0, 1.0), Throttled()
    monkeypatch.setattr(buckets, "room", shared.room)
    assert await throttled.ask(NOWHERE, lane(1), TERMS, 500) == (500, 0.0)
    await throttled.note(NOWHERE, lane(1), TERMS, 500, is_met=True)
    assert (await throttled.ask(NOWHERE, lane(1), TERMS, 500))[0] == 0
    assert await throttled.ask(NOWHERE, lane(2), TERMS, 500) == (500, 0.0), "another lane has not"
    assert await throttled.note(NOWHERE, lane(1), TERMS, 500, is_met=False) == 0.0
    assert await throttled.ask(NOWHERE, lane(1), TERMS, 500) == (500, 0.0)
