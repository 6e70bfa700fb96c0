"""Fan-out: a campaign's list or audience becomes messages; each page is one statement with its checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from outrider.base.ids import NIL
from outrider.domain.messages.rows import SQL


@dataclass(frozen=True, slots=True)
class Plan:
    """What a campaign sends and to whom; frozen at launch. Without a list: to the audience that was found for it."""

    campaign_id: UUID
    list_id: UUID | None
    lane_id: int
    channel: str
    content_id: UUID
    purpose: str
    priority: int
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class Page:
    """What one page did. `last` is None when there was nothing left: the fan-out is complete."""

    last: UUID | None
    looked_at: int
    queued: int
    without_address: int


async def fan_out(raw: asyncpg.Connection, tenant_id: UUID, plan: Plan, *, after: UUID | None, limit: int) -> Page:
    """Queue the next page of a campaign's members.

    Takes:   after   the checkpoint of the page before; limit 100..20,000.
    Gives:   what was done; the caller stores `last` as checkpoint in the same transaction. A contact or an address that
             has the campaign already is passed over, so repeating a page is harmless.
    Source:  queries.sql fan_out; faults F22.
    """
    row = await SQL.fan_out.one(
        raw, tenant_id, plan.campaign_id, plan.list_id, plan.lane_id, plan.channel, after or NIL, limit,
        plan.content_id, plan.purpose, plan.priority, plan.expires_at,
    )  # fmt: skip
    if row is None:
        return Page(None, 0, 0, 0)
    return Page(row["last"], row["looked_at"], row["queued"], row["without_address"])
