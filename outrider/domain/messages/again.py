"""Sending again what failed: new messages with what was frozen in the old ones, which stay as they ended.

Owns which failures pass: causes that the engine itself repeats, and what a provider took and dropped later. What was
refused for good, blocked or is uncertain is never sent again here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg

from outrider.base.ids import NIL
from outrider.contracts.outcome import CAUSES
from outrider.domain.messages.rows import SQL

PASSING: Final = tuple(sorted(code for code, cause in CAUSES.items() if cause.retry != "never"))
"""Codes of failed messages that are worth another try."""


@dataclass(frozen=True, slots=True)
class Again:
    """What a retry sends.

    family  the campaign and its retries before this one
    until   messages that ended later are not this retry's
    """

    campaign_id: UUID
    family: Sequence[UUID]
    lane_id: int
    channel: str
    until: datetime
    priority: int
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class Page:
    """What one page did. `last` is None when there was nothing left; not_theirs: the address went to somebody else."""

    last: UUID | None
    looked_at: int
    queued: int
    not_theirs: int


async def again(raw: asyncpg.Connection, tenant_id: UUID, plan: Again, *, after: UUID | None, limit: int) -> Page:
    """Look at the next page of a family's messages and queue those that failed once more.

    Takes:   after   the checkpoint of the page before; limit 1..20,000.
    Gives:   what was done; the caller stores `last` as checkpoint in the same transaction; repeating it is harmless.
    """
    row = await SQL.fan_out_again.one(
        raw, tenant_id, plan.campaign_id, list(plan.family), plan.lane_id, plan.channel, after or NIL, limit,
        list(PASSING), plan.until, plan.priority, plan.expires_at,
    )  # fmt: skip
    if row is None:
        return Page(None, 0, 0, 0)
    return Page(row["last"], row["looked_at"], row["queued"], row["not_theirs"])
