"""Two lines before one door: who is urgent goes first, but for every fourth turn.

Owns that order, for whatever waits in a worker for a connection of an account; never knows what it is.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

_OTHERS_EVERY = 4
"""So that what is not urgent goes on, however much is."""

T = TypeVar("T")


class Lines(Generic[T]):
    """Who waits, in their order."""

    __slots__ = ("_others", "_turn_count", "_urgent")

    def __init__(self) -> None:
        self._urgent: deque[T] = deque()
        self._others: deque[T] = deque()
        self._turn_count = 0

    def line(self, *, is_urgent: bool) -> deque[T]:
        """One of the two; its first is the next of its kind."""
        return self._urgent if is_urgent else self._others

    def turn(self) -> deque[T]:
        """The line whose turn it is now; empty when nobody waits in either."""
        if not self._urgent:
            return self._others
        self._turn_count += 1
        return self._others if self._others and self._turn_count % _OTHERS_EVERY == 0 else self._urgent

    def everybody(self) -> list[T]:
        """Everybody, the urgent ones first."""
        return [*self._urgent, *self._others]

    def clear(self) -> None:
        """Send everybody away."""
        self._urgent.clear()
        self._others.clear()


class Places:
    """So many at once, the others in their lines."""

    def __init__(self, count: int) -> None:
        self._free_count = count
        self._lines: Lines[asyncio.Future[None]] = Lines()

    @asynccontextmanager
    async def place(self, *, is_urgent: bool = False) -> AsyncIterator[None]:
        """Wait for a place and keep it while the block runs."""
        await self._take(is_urgent=is_urgent)
        try:
            yield
        finally:
            self._give()

    async def _take(self, *, is_urgent: bool) -> None:
        if self._free_count:  # then nobody waits: who leaves hands the place on
            self._free_count -= 1
            return
        line = self._lines.line(is_urgent=is_urgent)
        handed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line.append(handed)
        try:
            await handed
        except asyncio.CancelledError:
            if handed.done() and not handed.cancelled():
                self._give()  # it was handed over in the very moment in which nobody wanted it any more
            elif handed in line:
                line.remove(handed)
            raise

    def _give(self) -> None:
        """Hand a place to the next one; free when nobody waits."""
        while line := self._lines.turn():
            handed = line.popleft()
            if not handed.done():  # else its task was cancelled, and has not run since
                handed.set_result(None)
                return
        self._free_count += 1
