"""A unit of work done again when the database undid it as a whole for the sake of others' work.

Owns when that is safe and how often it is tried. A lost connection is none of it: whether a COMMIT on it counted is not
known, so only who has a key to repeat under may repeat that.

Source:  F42
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import asyncpg

from outrider.base.errors import Unavailable

TRIES: Final = 5
_FIRST_PAUSE_S: Final = 0.01
_UNDONE = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)
_T = TypeVar("_T")


async def again_if_undone(work: Callable[[], Awaitable[_T]]) -> _T:
    """Do a whole unit of work, and again, after a short random pause, when it lost a deadlock or was overtaken.

    Takes:   work: from its begin to its commit, and nothing that outlasts a rollback
    Raises:  what work raises; Unavailable(database_busy) when it was undone TRIES times.
    """
    for attempt in range(1, TRIES):
        try:
            return await work()
        except Unavailable as error:
            if not isinstance(error.__cause__, _UNDONE):
                raise
        await asyncio.sleep(random.uniform(0, _FIRST_PAUSE_S * 2**attempt))  # noqa: S311 - spreads who met each other
    return await work()
