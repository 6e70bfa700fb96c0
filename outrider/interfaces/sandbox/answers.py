"""The answers of a session in the order they were said, some of which wait for the disk or for a delay.

Owns the order; never touches a connection.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from outrider.interfaces.sandbox.ledger import Ticket

_NO_SPACE: Final = b"452 4.3.1 The ledger cannot be written, nothing was taken\r\n"


class Mark(Enum):
    """What happens to the connection once everything before it has left."""

    CLOSE = "close politely"
    DROP = "close at once"
    TLS = "turn to TLS"


class AnswerQueue:
    """Answers, tickets and at most one mark, first in first out."""

    __slots__ = ("_items", "_plain", "mark")

    def __init__(self) -> None:
        self._plain: list[bytes] = []
        """Answers that wait for nothing, as long as no ticket came between."""
        self._items: list[bytes | Ticket] = []
        """From the first ticket on: everything."""
        self.mark: Mark | None = None
        """Stands behind all that was said; nothing is said after it."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing is owed."""
        return not self._plain and not self._items and self.mark is None

    def say(self, answer: bytes) -> None:
        """Add an answer."""
        if self._items:
            self._items.append(answer)
        else:
            self._plain.append(answer)

    def wait_for(self, ticket: Ticket) -> None:
        """Add the answer of a ticket, and hold back what comes after it."""
        self._items.append(ticket)

    def clear(self) -> None:
        """Owe nothing any more."""
        self._plain.clear()
        self._items.clear()
        self.mark = None

    def take(self) -> tuple[bytes, Mark | None]:
        """What may leave now, and the mark if nothing before it waits any more (it is given once)."""
        ready = self._plain
        items = self._items
        if not ready and items and isinstance(items[0], Ticket) and not items[0].is_settled:
            return b"", None
        self._plain = []
        count = 0
        for item in items:
            if isinstance(item, Ticket):
                if not item.is_settled:
                    break
                ready.append(_answer(item))
            else:
                ready.append(item)
            count += 1
        del items[:count]
        mark: Mark | None = None
        if not items:
            mark, self.mark = self.mark, None
        return b"".join(ready), mark


def _answer(ticket: Ticket) -> bytes:
    """What the client is told: success only when the record is on disk."""
    return _NO_SPACE if ticket.is_failed and ticket.answer.startswith(b"2") else ticket.answer
