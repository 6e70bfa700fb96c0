"""The watchdog of an event loop: a thread that notices that the loop does not turn, and says what holds it [F18].

Owns noticing, one line in the log with the stack per stall, and the figures. What must go on meanwhile is kept up by
threads of its own: the leases of messages by `dispatch/lease.py`.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Final

import structlog
from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from outrider.base.clock import utc_now

STALLED_S: Final = 1.0
"""A loop that does not turn for so long cannot keep the promise of the kill switch."""
_LOOKS: Final = 2
"""So often in that time the watchdog looks."""
_DEEPEST: Final = 40
_log = structlog.get_logger(__name__)


class Stalls(Collector):
    """The watchdog over the event loop of this process, and what it has seen."""

    def __init__(self, app: str, *, after_s: float = STALLED_S) -> None:
        self._app = app
        self._after_s = after_s
        self._stop = threading.Event()
        self._turned_s: float | None = None
        """When the loop answered last; None: it has yet to."""
        self.count = 0
        self.seconds = 0.0
        self.last: tuple[datetime, float] | None = None
        """When the loop last stood still, as of the end, and for how many seconds."""

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch the running event loop for the time of the block."""
        self._stop.clear()
        loop, thread_id = asyncio.get_running_loop(), threading.get_ident()
        thread = threading.Thread(target=self._watch, args=(loop, thread_id), name="loop watchdog", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join(timeout=5)

    def collect(self) -> Iterator[Metric]:
        """How often and for how long the loop stood still."""
        for name, text, value in (
            ("outrider_loop_stalls", "Times the event loop stood still for a second or longer", self.count),
            ("outrider_loop_stalled_seconds", "Seconds for which it did, as of the end of each", self.seconds),
        ):
            family = CounterMetricFamily(name, text, labels=["app"])
            family.add_metric([self._app], value)
            yield family

    def _watch(self, loop: asyncio.AbstractEventLoop, thread_id: int) -> None:
        """Ask the loop for a sign of life again and again.

        Time in which this thread was not let run either does not count, unless the process was busy in it: it was
        stopped, or the machine is. Who keeps the interpreter to itself is busy, and is found out afterwards.
        """
        every_s = self._after_s / _LOOKS
        asked_s = before_s = time.monotonic()
        busy_s, is_told, longest_s = time.process_time(), False, 0.0
        self._ask(loop)
        while not self._stop.wait(every_s):
            now_s, now_busy_s = time.monotonic(), time.process_time()
            asked_s += max(0.0, now_s - before_s - every_s - (now_busy_s - busy_s))
            before_s, busy_s = now_s, now_busy_s
            turned_s = self._turned_s
            stood_s = (now_s if turned_s is None else turned_s) - asked_s
            longest_s = max(longest_s, stood_s)  # what does not count may have come after it turned again
            if stood_s >= self._after_s and not is_told:
                is_told = True
                self.count += 1
                stack = _stack(thread_id) if turned_s is None else []  # else it is over already
                _log.error("loop_stalled", stood_s=round(stood_s, 1), frames=stack)  # `stack` is the console log's own
            if turned_s is not None:
                if is_told:
                    self._over(longest_s)
                asked_s, is_told, longest_s = time.monotonic(), False, 0.0
                self._ask(loop)

    def _over(self, stood_s: float) -> None:
        self.seconds += stood_s
        self.last = (utc_now(), stood_s)
        _log.warning("loop_turns_again", stood_s=round(stood_s, 1))

    def _ask(self, loop: asyncio.AbstractEventLoop) -> None:
        self._turned_s = None
        with suppress(RuntimeError):  # it is closed: the process ends
            loop.call_soon_threadsafe(self._turns)

    def _turns(self) -> None:
        self._turned_s = time.monotonic()


def _stack(thread_id: int) -> list[str]:
    """What a thread does now, outermost first: files, lines and functions, never values."""
    frame = sys._current_frames().get(thread_id)  # noqa: SLF001 - documented, for finding out what blocks a thread
    found = traceback.extract_stack(frame, limit=_DEEPEST) if frame is not None else []
    return [f"{each.filename}:{each.lineno} {each.name}" for each in found]
