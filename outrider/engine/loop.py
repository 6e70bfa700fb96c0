"""Background loops: each runs by itself, backs off when the database is away, and has a heartbeat.

Owns repeating and the record of when each loop last ran; knows nothing of what a loop does.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import asyncpg
import structlog
from prometheus_client.registry import Collector, CollectorRegistry

from outrider.base.clock import boottime_s
from outrider.base.errors import Misconfigured, Unavailable

_log = structlog.get_logger(__name__)
_LONGEST_PAUSE_S = 5.0
UNASKED_S: Final = 5.0
"""A loop that is woken where there is something to do looks for itself so often all the same."""


class Directory(Protocol):
    """A named statement that gives where there is something to do."""

    @property
    def sql(self) -> str:
        """Its text."""
        ...

    async def many(self, connection: asyncpg.Connection, *args: Any) -> list[asyncpg.Record]:
        """All rows."""
        ...


@dataclass(frozen=True, slots=True)
class Asking:
    """A statement that tells whether a loop would find something to do.

    column   where it tells that, in its only row; empty: it gives a row when there is something
    every_s  asked no more often than this; what nobody waits for need not be asked at every look
    """

    statement: Directory
    column: str = ""
    values: tuple[Any, ...] = ()
    every_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Loop:
    """Something done again and again.

    step     does one round and tells whether more is waiting (then the next round comes at once)
    every_s  pause between rounds when nothing waits; the first round comes at once
    figures  what the process that runs it shows at its /metrics because of it
    wake     set when there is something to do: cuts a pause short
    asking   by what `Lookout` sees that there is something to do: `wake` rings again and again while there is, and does
             not cut the pause after a fault
    """

    name: str
    every_s: float
    step: Callable[[], Awaitable[bool]]
    figures: Sequence[Collector] = ()
    wake: asyncio.Event | None = None
    asking: Asking | None = None


def woken(name: str, step: Callable[[], Awaitable[bool]], asking: Asking, figures: Sequence[Collector] = ()) -> Loop:
    """A loop whose round begins when `asking` tells of something to do, again and again while it does."""
    return Loop(name, UNASKED_S, step, figures, asyncio.Event(), asking)


@dataclass(slots=True)
class Pulse:
    """The record of one loop."""

    every_s: float
    beat_at: float = field(default_factory=boottime_s)
    """CLOCK_BOOTTIME seconds of the last round that ended well."""
    rounds: int = 0
    faults: int = 0
    last_fault: str = ""

    @property
    def age_s(self) -> float:
        """Seconds since the last good round."""
        return boottime_s() - self.beat_at

    @property
    def is_late(self) -> bool:
        """Whether the loop has missed several rounds."""
        return self.age_s > max(10.0, 5 * self.every_s)


class Pulses:
    """The heartbeats of all loops of a process."""

    def __init__(self) -> None:
        self.by_name: dict[str, Pulse] = {}

    def ages(self) -> dict[str, float]:
        """Seconds since the last good round of each loop."""
        return {name: round(pulse.age_s, 3) for name, pulse in self.by_name.items()}

    def late(self) -> list[str]:
        """Names of the loops that have missed several rounds."""
        return [name for name, pulse in self.by_name.items() if pulse.is_late]


async def repeat(loop: Loop, pulses: Pulses, stop: asyncio.Event) -> None:
    """Run a loop until `stop`; never ends because of a fault.

    A database that is away is counted and waited for with jittered back-off; a bug is logged with its trace and waited
    for likewise, so that one bad row cannot stop the rest of the process. The first pause is only a part of one: loops
    that were started together would go together ever after, each on a connection of its own.
    """
    pulse = pulses.by_name.setdefault(loop.name, Pulse(loop.every_s))
    pause_s = 0.0
    rest_s = loop.every_s * random.random()  # noqa: S311 - jitter
    while not stop.is_set():
        try:
            has_more = await loop.step()
        except (Misconfigured, Unavailable) as error:  # a password that was changed is put right, too
            pulse.faults += 1
            pulse.last_fault = error.code
            has_more, pause_s = False, min(max(pause_s * 2, 0.2), _LONGEST_PAUSE_S)
            _log.warning("loop_waits", loop=loop.name, code=error.code)
        except Exception as error:  # noqa: BLE001 - the last resort of a loop: logged with its trace, then it goes on
            pulse.faults += 1
            pulse.last_fault = type(error).__name__
            has_more, pause_s = False, min(max(pause_s * 2, 0.5), _LONGEST_PAUSE_S)
            _log.exception("loop_failed", loop=loop.name)
        else:
            pulse.beat_at = boottime_s()
            pulse.rounds += 1
            pause_s = 0.0
        if has_more:
            await asyncio.sleep(0)
            continue
        wake = None if pause_s and loop.asking else loop.wake
        await pause(stop, pause_s * random.uniform(0.5, 1.0) if pause_s else rest_s, wake)  # noqa: S311 - jitter
        rest_s = loop.every_s


def show(loops: Iterable[Loop], registry: CollectorRegistry) -> None:
    """Show the figures of a process's loops at its /metrics."""
    for loop in loops:
        for figure in loop.figures:
            registry.register(figure)


async def finish(tasks: set[asyncio.Task[None]], within_s: float) -> None:
    """Let what is under way end by itself; what has not in time is cut, as a kill would cut it."""
    if tasks:
        _done, still_open = await asyncio.wait(tasks, timeout=within_s)
        for task in still_open:
            task.cancel()
        if still_open:
            await asyncio.wait(still_open)


@asynccontextmanager
async def running(loop: Loop) -> AsyncIterator[None]:
    """Repeat a loop beside what is done meanwhile, for processes that have no others; a round under way is cut off."""
    task = asyncio.create_task(repeat(loop, Pulses(), asyncio.Event()), name=loop.name)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def pause(stop: asyncio.Event, seconds: float, wake: asyncio.Event | None = None) -> None:
    """Wait, but no longer than until `stop` or `wake` is set; `wake` is cleared."""
    if wake is None:
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), seconds)
        return
    waiting = {asyncio.ensure_future(stop.wait()), asyncio.ensure_future(wake.wait())}
    try:
        await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
    wake.clear()
