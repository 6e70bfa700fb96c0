"""File locks (flock) between processes: held by an open file, gone with its last holder, however that one ended.

Owns waiting with a bound; knows nothing of PostgreSQL.
"""

from __future__ import annotations

import fcntl
import os
import time

_POLL_S = 0.02


class FileLock:
    """One open lock file. Closing it gives the lock up; so does the death of every process that has it open."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def share(self, bound_s: float) -> bool:
        """Hold it together with others; False when somebody had it alone for the whole time."""
        return self._acquire(fcntl.LOCK_SH, bound_s)

    def take(self, bound_s: float = 0.0) -> bool:
        """Hold it alone; False when others held it for the whole time. A shared hold is lost in the attempt."""
        return self._acquire(fcntl.LOCK_EX, bound_s)

    def close(self) -> None:
        """Give it up; idempotent."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _acquire(self, kind: int, bound_s: float) -> bool:
        give_up_at = time.monotonic() + bound_s
        while True:
            try:
                fcntl.flock(self.fd, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= give_up_at:
                    return False
                time.sleep(_POLL_S)
            else:
                return True
