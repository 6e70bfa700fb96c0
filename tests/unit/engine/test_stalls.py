"""The watchdog over an event loop: what stands still is told once with its place, what is stopped is nobody's fault."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest
from structlog.dev import ConsoleRenderer
from structlog.testing import capture_logs

from outrider.engine import stalls
from outrider.engine.stalls import Stalls

AFTER_S = 0.2


@pytest.fixture
def logs() -> Iterator[list[Any]]:
    with capture_logs() as lines:
        yield lines


def figures(watched: Stalls) -> dict[str, float]:
    return {family.name: family.samples[0].value for family in watched.collect()}


async def until_over(watched: Stalls) -> None:
    async with asyncio.timeout(60):
        while watched.last is None:  # noqa: ASYNC110 - its thread sets no event
            await asyncio.sleep(0.01)


def blocks_the_loop(logs: list[Any]) -> None:
    """Hold the loop until that was told: time in which the watchdog itself was not let run does not count."""
    end_s = time.monotonic() + 60
    while not logs and time.monotonic() < end_s:
        time.sleep(0.01)


async def test_a_loop_that_stands_still_is_told_once_with_its_place_and_counted(logs: list[Any]) -> None:
    watched = Stalls("outrider", after_s=AFTER_S)
    with watched.watching():
        blocks_the_loop(logs)
        await until_over(watched)
    told = [line for line in logs if line["event"] == "loop_stalled"]
    assert len(told) == watched.count == 1
    assert any(place.endswith(" blocks_the_loop") for place in told[0]["frames"]), told
    assert "blocks_the_loop" in ConsoleRenderer(colors=False)(None, "error", dict(told[0])), "a terminal shows it, too"
    assert watched.last is not None
    assert figures(watched) == {
        "outrider_loop_stalls": 1, "outrider_loop_stalled_seconds": watched.last[1],
    }  # fmt: skip
    assert watched.last[1] >= AFTER_S
    assert [line["event"] for line in logs] == ["loop_stalled", "loop_turns_again"]


async def test_a_loop_that_turns_is_left_alone(monkeypatch: pytest.MonkeyPatch, logs: list[Any]) -> None:
    asked = 0
    ask = Stalls._ask

    def counted(self: Stalls, loop: asyncio.AbstractEventLoop) -> None:
        nonlocal asked
        asked += 1
        ask(self, loop)

    monkeypatch.setattr(Stalls, "_ask", counted)
    watched = Stalls("outrider", after_s=30.0)
    monkeypatch.setattr(stalls, "_LOOKS", 3000)
    with watched.watching():
        async with asyncio.timeout(60):
            while asked < 10:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.005)
    assert (watched.count, watched.last, logs) == (0, None, [])


class _Clock:
    """A stopped process: its thread sleeps for much longer than it asked for, and nothing is computed meanwhile."""

    def __init__(self, watched: Stalls, *, slept_s: float, busy_s: float) -> None:
        self._now_s, self._busy_s, self._left = 1000.0, 7.0, 3
        self._slept_s, self._spent_s = slept_s, busy_s
        self._watched = watched

    def monotonic(self) -> float:
        return self._now_s

    def process_time(self) -> float:
        return self._busy_s

    def wait(self, _timeout: float) -> bool:
        self._now_s += self._slept_s
        self._busy_s += self._spent_s
        self._watched._turns()  # continued, the loop answers at once
        self._left -= 1
        return self._left < 0

    def set(self) -> None:
        """Nobody waits."""


@pytest.mark.parametrize(("busy_s", "count"), [(0.0, 0), (30.0, 3)])
async def test_time_in_which_nothing_ran_at_all_does_not_count_unless_it_was_computed_in(
    busy_s: float, count: int, monkeypatch: pytest.MonkeyPatch, logs: list[Any]
) -> None:
    watched = Stalls("outrider", after_s=1.0)
    clock = _Clock(watched, slept_s=30.0, busy_s=busy_s)
    monkeypatch.setattr(stalls, "time", clock)
    monkeypatch.setattr(watched, "_stop", clock)
    watched._watch(asyncio.get_running_loop(), 0)
    assert watched.count == count
    assert all(line["frames"] == [] for line in logs if line["event"] == "loop_stalled"), "it was over by then"


class _StoppedAfterwards(_Clock):
    """Its loop stands still for two looks and turns again; before the third look the process is stopped."""

    def wait(self, _timeout: float) -> bool:
        self._left -= 1
        self._now_s += 0.5
        if not self._left:
            self._watched._turns()
            self._now_s += self._slept_s
        return self._left < 0


async def test_a_stop_after_the_loop_turned_again_takes_nothing_from_how_long_it_stood(
    monkeypatch: pytest.MonkeyPatch, logs: list[Any]
) -> None:
    watched = Stalls("outrider", after_s=1.0)
    clock = _StoppedAfterwards(watched, slept_s=30.0, busy_s=0.0)
    monkeypatch.setattr(stalls, "time", clock)
    monkeypatch.setattr(watched, "_stop", clock)
    watched._watch(asyncio.get_running_loop(), 0)
    assert [line["event"] for line in logs] == ["loop_stalled", "loop_turns_again"]
    assert watched.last is not None
    assert watched.seconds == watched.last[1] >= 1.0, "a counter never goes down"


async def test_the_watch_ends_with_the_block() -> None:
    watched = Stalls("outrider")
    with watched.watching():
        pass
    assert watched._stop.is_set()
