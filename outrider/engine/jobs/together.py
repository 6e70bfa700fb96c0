"""Many small writes in one transaction: what comes while one commits goes together into the next.

Owns the grouping. Writers are independent and fenced each by itself; one that breaks does not take the others with it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from outrider.base.errors import Unavailable
from outrider.data.db import Database, Role, UnitOfWork

Act = Callable[[UnitOfWork], Awaitable[Any]]
MOST = 50


class Together:
    """Does what it is handed in units of work of the engine's role, as few as the moment allows."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: deque[tuple[Act, asyncio.Future[Any]]] = deque()
        self._task: asyncio.Task[None] | None = None

    async def do(self, act: Act) -> Any:
        """What `act` gives, once it is committed.

        Raises:  what `act` raises; Unavailable when the commit is in doubt or did not come: repeat what is fenced.
        """
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((act, future))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work(), name="job writes")
        return await future

    async def _work(self) -> None:
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(MOST, len(self._waiting)))]
            try:
                await self._commit(batch)
            except Unavailable as error:
                for _act, future in batch:
                    _fail(future, error)
            except Exception:  # noqa: BLE001 - whose it is shows when each goes by itself
                await self._one_by_one(batch)

    async def _commit(self, batch: list[tuple[Act, asyncio.Future[Any]]]) -> None:
        async with self._database.uow(Role.ENGINE) as uow:
            given = [await act(uow) for act, _future in batch]
        for (_act, future), result in zip(batch, given, strict=True):
            if not future.done():
                future.set_result(result)

    async def _one_by_one(self, batch: list[tuple[Act, asyncio.Future[Any]]]) -> None:
        for act, future in batch:
            try:
                await self._commit([(act, future)])
            except Exception as error:  # noqa: BLE001 - handed to whoever asked
                _fail(future, error)


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
