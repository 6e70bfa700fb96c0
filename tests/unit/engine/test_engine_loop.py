from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise

import pytest
from structlog.testing import capture_logs

from outrider.base.errors import Misconfigured, Unavailable
from outrider.domain.messages.rows import SQL
from outrider.engine import loop as loops
from outrider.engine.loop import Asking, Loop, Pulse, Pulses, pause, repeat


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The lengths of the pauses a loop makes; none takes time. The first one is half of a whole one."""
    made: list[float] = []

    async def note(stop: asyncio.Event, seconds: float, wake: asyncio.Event | None = None) -> None:
        del stop, wake
        made.append(seconds)

    monkeypatch.setattr(loops, "pause", note)
    monkeypatch.setattr("random.random", lambda: 0.5)
    return made


async def run(step: Callable[[], Awaitable[bool]], rounds: int, *, every_s: float = 7.0) -> Pulse:
    """Repeat a step for a number of rounds."""
    stop, pulses, done = asyncio.Event(), Pulses(), 0

    async def counted() -> bool:
        nonlocal done
        done += 1
        if done >= rounds:
            stop.set()
        return await step()

    async with asyncio.timeout(90):
        await repeat(Loop("x", every_s, counted), pulses, stop)
    return pulses.by_name["x"]


async def test_more_work_comes_at_once_and_a_quiet_round_pauses(pauses: list[float]) -> None:
    answers = iter([True, True, False, True])

    async def step() -> bool:
        return next(answers)

    pulse = await run(step, 4)
    assert pauses == [3.5]
    assert (pulse.rounds, pulse.faults) == (4, 0)


async def test_loops_that_start_together_part_by_a_first_pause_that_is_only_a_part_of_one(pauses: list[float]) -> None:
    async def step() -> bool:
        return False

    await run(step, 4)
    assert pauses == [3.5, 7.0, 7.0, 7.0]


async def test_a_database_that_is_away_is_waited_for_ever_longer_but_not_for_ever(pauses: list[float]) -> None:
    async def step() -> bool:
        raise Unavailable("database_unavailable", "away")

    pulse = await run(step, 12)
    assert all(earlier <= later * 2 for earlier, later in pairwise(pauses))
    assert 0.1 <= pauses[0] <= 0.2
    assert 2.5 <= pauses[-1] <= 5.0
    assert (pulse.rounds, pulse.faults, pulse.last_fault) == (0, 12, "database_unavailable")


async def test_a_database_that_is_gone_or_refuses_the_password_is_waited_for_without_a_trace(
    pauses: list[float],
) -> None:
    async def step() -> bool:
        raise Misconfigured("database_missing", "there is no such database")

    with capture_logs() as logs:
        pulse = await run(step, 3)
    assert (pulse.rounds, pulse.faults, pulse.last_fault) == (0, 3, "database_missing")
    assert {each["event"] for each in logs} == {"loop_waits"}
    assert len(pauses) >= 2


async def test_a_bug_never_ends_the_loop_and_a_good_round_forgets_it(pauses: list[float]) -> None:
    answers = iter([ValueError("bad row"), ValueError("bad row"), None, ValueError("again")])

    async def step() -> bool:
        answer = next(answers)
        if answer:
            raise answer
        return False

    pulse = await run(step, 4)
    assert (pulse.rounds, pulse.faults, pulse.last_fault) == (1, 3, "ValueError")
    assert pauses[2] == 7.0
    assert pauses[0] <= 0.5
    assert pauses[3] <= 0.5, "the back-off begins anew after a good round"


async def test_being_cancelled_ends_the_loop(pauses: list[float]) -> None:
    async def step() -> bool:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await run(step, 2)
    assert pauses == []


async def test_a_wake_up_cuts_a_pause_short_and_is_used_up() -> None:
    stop, wake = asyncio.Event(), asyncio.Event()
    wake.set()
    async with asyncio.timeout(90):
        await pause(stop, 3600, wake)
    assert not wake.is_set()


@pytest.mark.parametrize("asking", [None, Asking(SQL.tenants_with_due)], ids=["told once", "asked for"])
async def test_a_bell_that_rings_again_and_again_cuts_no_pause_after_a_fault_short(
    monkeypatch: pytest.MonkeyPatch, asking: Asking | None
) -> None:
    stop, wake, heard = asyncio.Event(), asyncio.Event(), list[bool]()

    async def note(stop: asyncio.Event, seconds: float, wake: asyncio.Event | None = None) -> None:
        del seconds
        heard.append(wake is not None)
        if len(heard) == 2:
            stop.set()

    async def step() -> bool:
        if not heard:
            raise Unavailable("database_unavailable", "away")
        return False

    monkeypatch.setattr(loops, "pause", note)
    async with asyncio.timeout(90):
        await repeat(Loop("x", 7.0, step, wake=wake, asking=asking), Pulses(), stop)
    assert heard == [asking is None, True]


async def test_stopping_cuts_a_pause_short() -> None:
    stop = asyncio.Event()
    stop.set()
    async with asyncio.timeout(90):
        await pause(stop, 3600)
        await pause(stop, 3600, asyncio.Event())


async def test_a_pause_ends_by_itself() -> None:
    async with asyncio.timeout(90):
        await pause(asyncio.Event(), 0.001)
        await pause(asyncio.Event(), 0.001, asyncio.Event())


def test_a_loop_is_late_after_several_missed_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 1000.0
    monkeypatch.setattr(loops, "boottime_s", lambda: clock)
    pulses = Pulses()
    pulses.by_name = {"often": Pulse(0.5, clock), "seldom": Pulse(60.0, clock)}
    clock = 1009.0
    assert pulses.late() == []
    clock = 1011.0
    assert pulses.late() == ["often"]
    assert pulses.ages() == {"often": 11.0, "seldom": 11.0}
    clock = 1301.0
    assert pulses.late() == ["often", "seldom"]
