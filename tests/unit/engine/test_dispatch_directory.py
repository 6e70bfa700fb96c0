from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import pytest

from outrider.contracts.gate import Lane
from outrider.domain.messages import lanes
from outrider.engine.dispatch.directory import Directory

LANE = Lane(UUID(int=1), 7, "email", UUID(int=2), None, "bulk")


class Readings:
    """A clock that stands still but for what a reading takes, and a database that remembers how it was read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 1000.0
        self.walk_s = self.lanes_s = 0.001
        self.connection_s = 0.0
        self.ways: list[str] = []
        self.known: Sequence[int] = ()
        monkeypatch.setattr(lanes, "directory", self._walk)
        monkeypatch.setattr(lanes, "with_work", self._by_lane)
        database: Any = self
        self.directory = Directory(database, lambda: self.now_s, poll_s=0.25)

    @asynccontextmanager
    async def statements(self) -> AsyncIterator[None]:
        self.now_s += self.connection_s
        yield None

    async def _walk(self, _raw: Any) -> list[Lane]:
        self.now_s += self.walk_s
        self.ways.append("walk")
        return [LANE]

    async def _by_lane(self, _raw: Any, known: Sequence[int]) -> list[Lane]:
        self.now_s += self.lanes_s
        self.ways.append("lanes")
        self.known = known
        return [LANE]

    async def read(self, count: int, *, every_s: float = 1.0) -> list[str]:
        """The ways of so many readings."""
        self.ways.clear()
        for _ in range(count):
            assert await self.directory.read([LANE.id]) == [LANE]
            self.now_s += every_s
        return self.ways


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> Readings:
    return Readings(monkeypatch)


async def test_a_walk_that_costs_little_is_taken_every_time(readings: Readings) -> None:
    assert await readings.read(30) == ["walk"] * 30


async def test_while_a_walk_is_dear_lanes_are_asked_and_known_ones_are_not_looked_at(readings: Readings) -> None:
    readings.walk_s = 0.05
    assert await readings.read(5) == ["walk", "lanes", "lanes", "lanes", "lanes"]
    assert readings.known == [LANE.id]


async def test_a_walk_is_tried_again_and_kept_when_it_costs_little(readings: Readings) -> None:
    readings.walk_s = 0.05
    await readings.read(5)
    readings.walk_s = 0.001
    readings.now_s += 10
    assert await readings.read(5) == ["walk"] * 5


async def test_so_many_lanes_that_they_cost_more_than_the_walk_are_left_for_a_minute(readings: Readings) -> None:
    readings.walk_s, readings.lanes_s = 0.05, 0.2
    assert await readings.read(30) == ["walk", "lanes", *["walk"] * 28]
    readings.now_s += 60
    assert await readings.read(3) == ["walk", "lanes", "walk"]


async def test_a_wait_for_a_connection_is_not_taken_for_a_dear_walk(readings: Readings) -> None:
    readings.connection_s = 2.0
    assert await readings.read(5) == ["walk"] * 5
    assert readings.directory.rests_for_s == 0.0


async def test_reading_takes_a_twentieth_of_the_time_and_never_rests_longer_than_a_second(readings: Readings) -> None:
    readings.walk_s = 0.02
    await readings.read(1, every_s=0.0)
    assert not readings.directory.is_due(is_woken=True)
    assert 0.39 < readings.directory.rests_for_s <= 0.4
    readings.now_s += 0.41
    assert readings.directory.is_due(is_woken=True)
    readings.lanes_s = 5.0
    await readings.read(1, every_s=0.0)
    assert readings.directory.rests_for_s == 1.0


async def test_without_news_it_is_read_at_every_poll(readings: Readings) -> None:
    await readings.read(1, every_s=0.1)
    assert readings.directory.is_due(is_woken=True)
    assert not readings.directory.is_due(is_woken=False)
    readings.now_s += 0.2
    assert readings.directory.is_due(is_woken=False)
