"""The loop that takes away entries of the do-not-contact list whose time is over; which have one is domain/messages."""

from __future__ import annotations

from outrider.data.db import Role
from outrider.data.runtime import Runtime
from outrider.domain.contacts import suppressions
from outrider.engine.loop import Loop

_EVERY_S = 30.0
_SOME = 1000


def loops(runtime: Runtime) -> list[Loop]:
    """What a worker process runs beside its dispatch."""

    async def step() -> bool:
        async with runtime.db.uow(Role.ENGINE) as uow:
            return await suppressions.expire(uow, _SOME) == _SOME

    return [Loop("suppressions_expire", _EVERY_S, step)]
