"""Warm-ups in which room came back: what was counted and not sent leaves its place to what is held for another day.

Owns the look for it; what counts is domain/limits/allowances.py's.
"""

from __future__ import annotations

from outrider.contracts.gate import MessageClass
from outrider.data.db import Role
from outrider.data.runtime import Runtime
from outrider.domain.limits import allowances
from outrider.domain.messages import holds
from outrider.engine.loop import Loop

_EVERY_S = 2.0
_MOST_URGENT = 1000
"""As many as a claim counts."""
_CLASSES: tuple[MessageClass, ...] = ("transactional", "bulk")


def loops(runtime: Runtime) -> list[Loop]:
    """What a worker process runs beside its dispatch."""

    async def freed() -> bool:
        await release_freed(runtime)
        return False

    return [Loop("warm_up_room", _EVERY_S, freed)]


async def release_freed(runtime: Runtime) -> int:
    """Ask again about as many held messages as their plans have room for today; gives how many."""
    async with runtime.db.uow(Role.ENGINE) as uow:
        found = await allowances.with_room(uow.raw)
    count = 0
    for standing, has_urgent in found:
        async with runtime.db.uow(Role.ENGINE, standing.tenant_id) as uow:
            urgent = 0
            for message_class in _CLASSES:
                room = standing.room(message_class, urgent=urgent, has_urgent=has_urgent)
                released = 0
                if room:
                    released = await holds.release_up_to(uow, allowances.GATE, standing.sender_id, message_class, room)
                count += released
                if message_class == "transactional":  # their places are not bulk's, which would only be held again
                    urgent = released + await holds.ready(uow, standing.sender_id, message_class, _MOST_URGENT)
    return count
