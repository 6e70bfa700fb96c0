"""Contacts for whom fewer count since: what was counted and not sent leaves its place to what the frequency cap holds.

Owns the look for them; what counts is domain/limits/contacted.py's.
"""

from __future__ import annotations

from outrider.data.db import Role
from outrider.data.runtime import Runtime
from outrider.domain.limits import contacted
from outrider.domain.limits.rows import SPENDING
from outrider.domain.messages import holds
from outrider.engine.loop import Asking, Loop, woken

_EVERY_S = 2.0
_AT_ONCE = 200
"""Attempts in one transaction: claims of their tenant that count wait for it."""
_EACH = 20
"""Messages to one address: whichever of them go, the others are held again."""


def loops(runtime: Runtime) -> list[Loop]:
    """What a worker process runs beside its dispatch."""

    async def freed() -> bool:
        return (await release_freed(runtime))[1]

    return [woken("freed_contacts", freed, Asking(SPENDING.contacted_freed_tenants, every_s=_EVERY_S))]


async def release_freed(runtime: Runtime) -> tuple[int, bool]:
    """Ask again about what waits for room that came back, a bite of each tenant; gives how many, and whether more."""
    async with runtime.db.uow(Role.ENGINE) as uow:
        tenants = await contacted.tenants_freed(uow.raw)
    count, has_more = 0, False
    for tenant_id in tenants:
        async with runtime.db.uow(Role.ENGINE, tenant_id) as uow:
            found = await contacted.freed(uow.raw, tenant_id, most=_AT_ONCE)
            if found.contacts:
                count += await holds.release_contacts(uow, contacted.GATE, found.contacts, found.purposes, most=_EACH)
        has_more |= found.count >= _AT_ONCE
    return count, has_more
