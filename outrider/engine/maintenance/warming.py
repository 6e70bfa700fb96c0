"""Warm-ups in which room came back: what was counted and not sent leaves its place to what is held for another day.

Owns the look for it; what counts is domain/limits/allowances.py's.
"""

from __future__ import annotations

from outrider.base.ids import NIL
from outrider.data.db import Role
from outrider.data.runtime import Runtime
from outrider.domain.limits import allowances
from outrider.domain.messages import holds
from outrider.engine.loop import Loop

_EVERY_S = 2.0
_AT_ONCE = 1000
"""Plans in one transaction, of as many statements for a thousand as for one."""


def loops(runtime: Runtime) -> list[Loop]:
    """What a worker process runs beside its dispatch."""

    async def freed() -> bool:
        await release_freed(runtime)
        return False

    return [Loop("warm_up_room", _EVERY_S, freed)]


async def release_freed(runtime: Runtime) -> int:
    """Ask again about as many held messages as their plans have room for today; gives how many."""
    count, behind = 0, (NIL, NIL)
    while True:
        async with runtime.db.uow(Role.ENGINE) as uow:
            found = await allowances.with_room(uow.raw, behind, most=_AT_ONCE)
            freed = [
                (each.standing.tenant_id, each.standing.sender_id, message_class, most)
                for each in found
                for message_class, most in each.freed().items()
                if most
            ]
            count += await holds.release_many(uow, allowances.GATE, freed)
        if len(found) < _AT_ONCE:
            return count
        behind = (found[-1].standing.tenant_id, found[-1].standing.sender_id)
