"""Budgets changed by hand in SQL come into the audit log; what waits for money or a price is asked about in time.

Owns nothing else of money: what claims take and give back is domain/limits.
"""

from __future__ import annotations

from datetime import datetime

from outrider.base.ids import NIL
from outrider.data.db import Role
from outrider.data.runtime import Runtime
from outrider.domain.limits import budgets
from outrider.domain.limits.rows import SPENDING
from outrider.domain.messages import holds
from outrider.engine.loop import Loop

_EVERY_S = 2.0
_PRICES_S = 5.0
_SOME = 500


def loops(runtime: Runtime) -> list[Loop]:
    """What a worker process runs beside its dispatch."""

    async def adopt() -> bool:
        await adopt_hand_changes(runtime)
        return False

    async def freed() -> bool:
        await release_freed(runtime)
        return False

    prices = Prices(runtime)
    return [
        Loop("budgets_by_hand", _EVERY_S, adopt),
        Loop("freed_money", _EVERY_S, freed),
        Loop("begun_prices", _PRICES_S, prices.step),
    ]


async def adopt_hand_changes(runtime: Runtime) -> int:
    """One round; gives how many tenants were concerned."""
    async with runtime.db.uow(Role.ENGINE) as uow:
        tenants = await budgets.adopt_hand_changes(uow)
    for tenant_id in tenants:
        async with runtime.db.uow(Role.ENGINE, tenant_id) as uow:
            await holds.release(uow, budgets.GATE)
    return len(tenants)


async def release_freed(runtime: Runtime) -> int:
    """Ask again about some messages of each account that money came back to; gives how many.

    Whoever is killed in between leaves the account as it is: the next round goes on.
    """
    async with runtime.db.uow(Role.ENGINE) as uow:
        told = await budgets.freed(uow)
    count = 0
    for tenant_id, campaign_id in told:
        async with runtime.db.uow(Role.ENGINE, tenant_id) as uow:
            released = await holds.release_some(uow, budgets.GATE, campaign_id, _SOME)
            if released < _SOME:
                await budgets.asked(uow, campaign_id)
        count += released
    return count


class Prices:
    """Prices that come into force; each process looks for itself, which asks twice and does no harm."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._seen_until: datetime | None = None

    async def step(self) -> bool:
        """Ask again about what is held for money of those whose prices are others since the last look."""
        db = self._runtime.db
        async with db.uow(Role.ENGINE) as uow:
            row = await SPENDING.prices_begun.one(uow.raw, self._seen_until)
            tenants = set(row["tenants"]) if row else set()
            if NIL in tenants:  # everybody's
                tenants |= set(await holds.tenants(uow, budgets.GATE))
        for tenant_id in sorted(tenants - {NIL}):
            async with db.uow(Role.ENGINE, tenant_id) as uow:
                await holds.release(uow, budgets.GATE)
        self._seen_until = row["until"] if row else None
        return False
