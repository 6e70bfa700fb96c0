"""Signals of a process that stays: the first asks it to stop in order, the second, or the end of its grace, ends it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import structlog

from outrider.interfaces.cli import exits

STUCK_AFTER_S: Final = 5.0
"""How long after its grace a process whose event loop does not turn any more goes on living without a parent."""
_log = structlog.get_logger(__name__)


class Stop:
    """The wish to stop, from a signal or from a parent that is gone."""

    def __init__(self, grace_s: float) -> None:
        self.event = asyncio.Event()
        self.signal: signal.Signals | None = None
        self._grace_s = grace_s
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._is_done = threading.Event()

    def ask(self, why: str) -> None:
        """Ask to stop; not obeyed within the grace, the process ends hard."""
        if self.event.is_set():
            return
        _log.info("stopping", why=why, grace_s=self._grace_s)
        self.event.set()
        self._timer = self._loop.call_later(self._grace_s, self.end_hard, "grace is over")

    def on_signal(self, number: signal.Signals) -> None:
        """A signal asks to stop; a second one ends the process hard: somebody is impatient."""
        if self.signal is not None:
            self.end_hard("asked twice")
        self.signal = number
        self.ask(number.name)

    def end_hard(self, why: str) -> None:
        """End now: leases and journals tell the others what was under way."""
        _log.error("stopped_hard", why=why)
        os._exit(exits.TERMINATED)

    def done(self) -> None:
        """The process stopped in time."""
        self._is_done.set()
        if self._timer is not None:
            self._timer.cancel()

    def end_stuck(self) -> None:
        """End the process when its loop hears no wish: a parent that is gone cannot kill it. Blocks its thread."""
        if not self._is_done.wait(self._grace_s + STUCK_AFTER_S):
            self.end_hard("stuck")


@contextmanager
def stopping(grace_s: float, *, lifeline: bool = False) -> Iterator[Stop]:
    """Listen to SIGTERM and SIGINT for the time of the block.

    Takes:   grace_s   how long stopping in order may take, beyond what the work itself is given
             lifeline  also stop when stdin ends: it is a pipe whose other end dies with the parent
    """
    stop = Stop(grace_s)
    loop = asyncio.get_running_loop()

    numbers = (signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        loop.add_signal_handler(number, stop.on_signal, number)
    if lifeline:
        _watch_stdin(loop, stop)
    try:
        yield stop
    finally:
        stop.done()
        for number in numbers:
            loop.remove_signal_handler(number)


def _watch_stdin(loop: asyncio.AbstractEventLoop, stop: Stop) -> None:
    """Stop when the parent is gone, however it went; a thread, because stdin may be anything."""

    def read() -> None:
        while os.read(0, 4096):
            pass
        if not loop.is_closed():
            loop.call_soon_threadsafe(stop.ask, "parent is gone")
        stop.end_stuck()

    threading.Thread(target=read, name="lifeline", daemon=True).start()


def ready(text: str) -> None:
    """Say on stdout that a process is ready and where; what starts it waits for this line."""
    try:
        if sys.stdout is not None:
            sys.stdout.write(f"ready: {text}\n")
            sys.stdout.flush()
    except OSError:
        return
