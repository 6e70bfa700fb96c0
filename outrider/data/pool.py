"""The pool of connections of one process: it grows when they are needed and gives back what was not needed lately.

Owns when a connection that is not in use is closed, also after the pool itself was; every one costs the server 2 to
3 MB, and an external server a place. How many there may be and how they are made is the engine's.
"""

from __future__ import annotations

import time
from typing import Any, Final

from sqlalchemy.pool import AsyncAdaptedQueuePool, ConnectionPoolEntry

WINDOW_S: Final = 10.0
_KEPT_COUNT: Final = 2


class CalmPool(AsyncAdaptedQueuePool):
    """Keeps as many connections as were in use at the same time in this window of time or the one before.

    The one returned last is taken first, so that work stays on few connections, which know its statements. A surplus
    one is closed when it is returned, as SQLAlchemy's own pool does with those beyond its size.
    """

    _sqla_logger_namespace = "sqlalchemy.pool.CalmPool"
    """Where SQLAlchemy logs what it does with a pool: below its own name, which is quiet."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._most_out_count = self._most_out_before_count = 0
        self._began_s = time.monotonic()
        self._is_disposed = False

    def dispose(self) -> None:
        """Close what is not in use now; what is, when it comes back: nobody would look into this pool again."""
        self._is_disposed = True
        super().dispose()

    def _do_get(self) -> ConnectionPoolEntry:
        entry = super()._do_get()
        self._most_out_count = max(self._most_out_count, self.checkedout())
        return entry

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        if not self._has_surplus():
            super()._do_return_conn(record)
            return
        try:
            record.close()
        finally:
            self._dec_overflow()

    def _has_surplus(self) -> bool:
        if self._is_disposed:
            return True
        now_s = time.monotonic()
        if now_s - self._began_s > WINDOW_S:
            self._most_out_before_count, self._most_out_count = self._most_out_count, self.checkedout()
            self._began_s = now_s
        open_count = self.checkedin() + self.checkedout()
        return open_count > max(self._most_out_count, self._most_out_before_count, _KEPT_COUNT)
