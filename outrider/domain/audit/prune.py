"""Taking away audit entries that are older than their retention, without breaking the chain."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from outrider.contracts.actor import Actor
from outrider.data.db import UnitOfWork
from outrider.domain.audit.append import append
from outrider.domain.audit.rows import SQL

PRUNED = "audit.prune"
"""The action whose entry vouches for the missing beginning of a chain."""


async def prune(uow: UnitOfWork, actor: Actor, tenant_id: UUID, before: datetime) -> int:
    """Delete the entries of a tenant that are older than `before`; the chain then says so itself.

    Takes:   a unit of work of the engine role.
    Gives:   how many entries were deleted; the newest entry always stays, since one is appended.
    """
    last = await SQL.prunable.one(uow.raw, tenant_id, before)
    if last is None:
        return 0
    details = {"to_seq": last["seq"], "hash": last["hash"].hex(), "before": before}
    await append(uow, actor, action=PRUNED, target=("audit_log", str(tenant_id)), details=details, tenant_id=tenant_id)
    return await SQL.entries_prune.run(uow.raw, tenant_id, last["seq"])
