"""Cancelling: what waits is withdrawn, what is on the wire ends by itself."""

from __future__ import annotations

from uuid import UUID

from outrider.data.db import UnitOfWork
from outrider.domain.messages.rows import SQL

_SLICE = 10_000


async def cancel_campaign(uow: UnitOfWork, tenant_id: UUID, campaign_id: UUID) -> int:
    """Cancel every message of a campaign that is not being sent.

    Takes:   a unit of work of the engine role. Locks each lane first, so that no claim is half-way.
    Gives:   how many were cancelled.
    """
    cancelled = 0
    for row in await SQL.lanes_of_campaign.many(uow.raw, tenant_id, campaign_id):
        await SQL.lane_lock.value(uow.raw, tenant_id, row["id"])
        while picked := [
            one["message_id"] for one in await SQL.cancel_pick.many(uow.raw, tenant_id, row["id"], _SLICE)
        ]:
            cancelled += await SQL.cancel_close.run(uow.raw, tenant_id, picked, min(picked), max(picked))
    return cancelled
