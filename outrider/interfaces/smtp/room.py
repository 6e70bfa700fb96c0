"""What a listener allows: how large a message may be, and how many bytes of them are held at once.

Owns the counting, over all connections and those of one tenant: without it whoever may send could fill the memory with
messages that never end. Knows no connection.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from outrider.interfaces.smtp.wire import HELD_BYTES

_READ_AT_ONCE: Final = 2


class Held:
    """What one message holds of the room."""

    def __init__(self, room: Room, tenant_id: UUID) -> None:
        self._room = room
        self._tenant_id = tenant_id
        self.count = 0
        self.is_refused = False

    def take(self, count: int) -> bool:
        """Hold so many bytes more, if there is room for them."""
        room = self._room
        self.is_refused = (
            room.held_bytes + count > room.most_bytes
            or room.by_tenant[self._tenant_id] + count > room.most_of_tenant_bytes
        )
        if not self.is_refused:
            self._add(count)
        return not self.is_refused

    def leave(self) -> None:
        """Hold nothing any more."""
        self._add(-self.count)
        if not self._room.by_tenant[self._tenant_id]:
            del self._room.by_tenant[self._tenant_id]

    def _add(self, count: int) -> None:
        self.count += count
        self._room.held_bytes += count
        self._room.by_tenant[self._tenant_id] += count


class Room:
    """The room of one process: for eight of the largest messages, for two of a tenant."""

    def __init__(self, message_bytes: int) -> None:
        self.most_bytes = 8 * message_bytes
        self.most_of_tenant_bytes = 2 * message_bytes
        self.held_bytes = 0
        self.by_tenant: Counter[UUID] = Counter()

    @contextmanager
    def held(self, tenant_id: UUID) -> Iterator[Held]:
        """What a message holds until the block ends."""
        held = Held(self, tenant_id)
        try:
            yield held
        finally:
            held.leave()


@dataclass(slots=True)
class Rules:
    """What a listener allows, and what its connections share: taking a message apart needs several times its size."""

    name: str
    most_bytes: int
    tls: ssl.SSLContext | None
    room: Room = field(init=False)
    reading: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self.room = Room(self.most_bytes + HELD_BYTES)
        self.reading = asyncio.Semaphore(_READ_AT_ONCE)
