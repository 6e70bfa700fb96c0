"""Budgets changed by hand in SQL come into the audit log; what waits for money is asked about when some came back.

Owns nothing else of money: what claims take and give back is domain/limits.
"""

from __future__ import annotations

from uuid import UUID

from outrider.data.db import Role
from outrider.data.runtime import Runtime
from outrider.domain.limits import budgets
from outrider.domain.messages import holds
from outrider.engine.loop import Loop

_EVERY_S = 2.0
_SOME = 500
Freed = tuple[UUID, UUID | None]
"""An account: the tenant, and the campaign where it is one's."""


def loops(runtime: Runtime) -> list[Loop]:
    """What a worker process runs beside its dispatch."""

    async def adopt() -> bool:
        await adopt_hand_changes(runtime)
        return False

    unfinished: set[Freed] = set()

    async def freed() -> bool:
        await release_freed(runtime, unfinished)
        return False

    return [Loop("budgets_by_hand", _EVERY_S, adopt), Loop("freed_money", _EVERY_S, freed)]


async def adopt_hand_changes(runtime: Runtime) -> int:
    """One round; gives how many tenants were concerned."""
    async with runtime.db.uow(Role.ENGINE) as uow:
        tenants = await budgets.adopt_hand_changes(uow)
    for tenant_id in tenants:
        async with runtime.db.uow(Role.ENGINE, tenant_id) as uow:
            await holds.release(uow, budgets.GATE)
    return len(tenants)


async def release_freed(runtime: Runtime, unfinished: set[Freed]) -> int:
    """Ask again about some messages of accounts that money came back to; gives how many.

    Takes:   unfinished: kept by the caller from round to round: accounts with more that wait. They go on until somebody
             lacks money again; else what came back at once would be too much for the few that are asked about.
    """
    async with runtime.db.uow(Role.ENGINE) as uow:
        told = set(await budgets.freed(uow))
    count = 0
    for account in told | unfinished:
        tenant_id, campaign_id = account
        async with runtime.db.uow(Role.ENGINE, tenant_id) as uow:
            is_over = account not in told and await budgets.is_short(uow, campaign_id)
            released = 0 if is_over else await holds.release_some(uow, budgets.GATE, campaign_id, _SOME)
        count += released
        (unfinished.discard if released < _SOME else unfinished.add)(account)
    return count
