"""The writing half of a connection: deadlines, and long bodies in parts no faster than the server takes them.

Owns when the connection should have been answered and what of a body is not yet written; never knows what it writes.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Final

from outrider.plugins.providers.smtp.wire import Wire

_PART_BYTES: Final = 131_072


class Writing(Wire):
    """A connection that writes under a deadline. `is_body_open`: the end of a long body is still in our hands."""

    def __init__(self, part_timeout_s: float) -> None:
        super().__init__()
        self.opened_at = self.loop.time()
        self.deadline = self.opened_at + part_timeout_s
        self._part_timeout_s = part_timeout_s
        self._rest: memoryview | None = None
        self._is_paused = False

    @property
    def is_body_open(self) -> bool:
        """Whether the final dot of a body that was begun is not written: then nothing can have been accepted."""
        return self._rest is not None

    def send(self, data: bytes, timeout_s: float) -> float:
        """Write what must be answered within a time; gives the clock."""
        now = self.loop.time()
        self.deadline = now + timeout_s
        self.write(data)
        return now

    def send_body(self, body: bytes) -> None:
        """Write a body; its end goes through `finish_body`, for a long one only after all the rest was taken."""
        if len(body) > _PART_BYTES:
            self._rest = memoryview(body)
            self._pump()
        else:
            self.finish_body(body)

    @abstractmethod
    def finish_body(self, last: bytes | memoryview) -> None:
        """Write the last part of a body and what ends it."""

    def pause_writing(self) -> None:
        """The server is slower than we."""
        self._is_paused = True

    def resume_writing(self) -> None:
        """The server took what was buffered."""
        self._is_paused = False
        self._pump()

    def _pump(self) -> None:
        while self._rest is not None and not self._is_paused and not self.is_over:
            rest = self._rest
            if len(rest) <= _PART_BYTES:
                self._rest = None
                self.finish_body(rest)
            else:
                self._rest = rest[_PART_BYTES:]
                self.send(bytes(rest[:_PART_BYTES]), self._part_timeout_s)
