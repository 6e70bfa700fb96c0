"""The pool of connections of one process: it grows when they are needed and gives back what was not needed lately.

Owns when one is opened beside those there are, when one that is not in use is closed, also after the pool itself was,
and that none which a fault of the line has outlived is handed out; every one costs the server 2 to 4 MB, and an
external server a place. How many there may be and how they are made is the engine's.
"""

from __future__ import annotations

import math
import time
from typing import Any, Final

from sqlalchemy.pool import AsyncAdaptedQueuePool, ConnectionPoolEntry
from sqlalchemy.util.queue import Empty

WINDOW_S: Final = 10.0
_MOMENT_S: Final = 0.02
"""Longer than a round of a background loop that finds nothing to do."""
_PATIENCE_S: Final = 0.2
"""The most that everybody together waits in one window for connections to come back: under load nobody does."""
_KEPT_COUNT: Final = 1
_BACK: Final = "outrider.back_s"
"""Noted on a connection when it is returned: until then it was good."""


class CalmPool(AsyncAdaptedQueuePool):
    """Keeps as many connections as were in use at the same time in this window of time or the one before.

    The one returned last is taken first, so that work stays on few connections, which know its statements. Where all
    that are open are in use, a moment is waited for one of them before another is opened: what comes together by
    chance goes one after another. A surplus one is closed when it is returned, as SQLAlchemy's own pool does with those
    beyond its size.
    """

    _sqla_logger_namespace = "sqlalchemy.pool.CalmPool"
    """Where SQLAlchemy logs what it does with a pool: below its own name, which is quiet."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._most_out_count = self._most_out_before_count = 0
        self._began_s = time.monotonic()
        self._waited_s = 0.0
        self._is_disposed = False
        self._lost_s = -math.inf

    def dispose(self) -> None:
        """Close what is not in use now; what is, when it comes back: nobody would look into this pool again."""
        self._is_disposed = True
        super().dispose()

    def _do_get(self) -> ConnectionPoolEntry:
        self._look_at_clock()
        entry = self._soon_back() or super()._do_get()
        self._most_out_count = max(self._most_out_count, self.checkedout())
        self._renew(entry)
        return entry

    def lost(self) -> None:
        """A connection turned out to be gone: each that lies here since before then is opened anew when it is needed.

        A server that was started again, or another in its place, has forgotten them all; only one caller hears of it.
        """
        self._lost_s = time.monotonic()

    def _renew(self, entry: ConnectionPoolEntry) -> None:
        """Have SQLAlchemy open another in the place of a connection that is gone, before it is handed out."""
        if entry.dbapi_connection is None:  # none yet
            return
        raw: Any = entry.driver_connection
        if raw.is_closed() or entry.info.get(_BACK, math.inf) <= self._lost_s:
            entry.invalidate(soft=True)

    def _soon_back(self) -> ConnectionPoolEntry | None:
        """One of those in use, when it comes back within a moment; None where one is free, or nobody has patience."""
        can_open = self.checkedout() and not self.checkedin() and self.overflow() < 0
        if not can_open or self._waited_s >= _PATIENCE_S or self._is_disposed:
            return None
        began_s = time.monotonic()
        try:
            return self._pool.get(True, _MOMENT_S)
        except Empty:
            return None
        finally:
            self._waited_s += time.monotonic() - began_s

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        if not self._has_surplus():
            record.info[_BACK] = time.monotonic()
            super()._do_return_conn(record)
            return
        try:
            record.close()
        finally:
            self._dec_overflow()

    def _has_surplus(self) -> bool:
        if self._is_disposed:
            return True
        self._look_at_clock()
        open_count = self.checkedin() + self.checkedout()
        return open_count > max(self._most_out_count, self._most_out_before_count, _KEPT_COUNT)

    def _look_at_clock(self) -> None:
        """Begin another window when this one is over."""
        now_s = time.monotonic()
        if now_s - self._began_s > WINDOW_S:
            self._most_out_before_count, self._most_out_count = self._most_out_count, self.checkedout()
            self._began_s, self._waited_s = now_s, 0.0
