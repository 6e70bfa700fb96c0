"""A bell that is rung often and heard seldom: many rings within a moment become one action.

Owns the aggregation (NOTIFY takes a lock at commit, so it never belongs into a hot transaction); knows not what rings.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from outrider.base.errors import OutriderError

_log = structlog.get_logger(__name__)
_GATHER_S = 0.01


class Bell:
    """Aggregates rings per name; a ring during the action makes it happen once more."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._again: set[str] = set()

    def ring(self, name: str, action: Callable[[], Awaitable[None]]) -> None:
        """Ask for the action soon; returns at once. A fault is logged: whoever listens polls as well."""
        if name in self._tasks:
            self._again.add(name)
            return
        task = asyncio.create_task(self._soon(name, action))
        self._tasks[name] = task
        task.add_done_callback(lambda _done: self._tasks.pop(name, None))

    async def quiet(self) -> None:
        """Wait until everything that was rung for has been done: what it uses must not be closed under it."""
        while self._tasks:
            await asyncio.wait(self._tasks.values())

    async def _soon(self, name: str, action: Callable[[], Awaitable[None]]) -> None:
        while True:
            self._again.discard(name)
            await asyncio.sleep(_GATHER_S)
            try:
                await action()
            except OutriderError as error:
                _log.warning("bell_not_heard", bell=name, code=error.code)
            if name not in self._again:
                return
