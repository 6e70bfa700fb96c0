"""Budgets that people changed by hand in SQL: written into the audit log, and what they held is asked about again.

Owns nothing else of money: what claims take and give back is domain/limits.
"""

from __future__ import annotations

from outrider.data.db import Role
from outrider.data.runtime import Runtime
from outrider.domain.limits import budgets
from outrider.domain.messages import holds
from outrider.engine.loop import Loop

_EVERY_S = 2.0


def loops(runtime: Runtime) -> list[Loop]:
    """What a worker process runs beside its dispatch."""

    async def adopt() -> bool:
        await adopt_hand_changes(runtime)
        return False

    return [Loop("budgets_by_hand", _EVERY_S, adopt)]


async def adopt_hand_changes(runtime: Runtime) -> int:
    """One round; gives how many tenants were concerned."""
    async with runtime.db.uow(Role.ENGINE) as uow:
        tenants = await budgets.adopt_hand_changes(uow)
    for tenant_id in tenants:
        async with runtime.db.uow(Role.ENGINE, tenant_id) as uow:
            await holds.release(uow, budgets.GATE)
    return len(tenants)
