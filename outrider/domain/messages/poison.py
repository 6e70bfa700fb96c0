"""Poison: messages over which workers died again and again. They failed, and wait for a person who mends the cause.

Owns their list and queueing them again. Those whose bytes may have left are not among them: they are uncertain
(`uncertain.py`), because queueing them again may deliver them twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg
import msgspec

from outrider.base.ids import NIL
from outrider.contracts.actor import Actor
from outrider.data.db import UnitOfWork
from outrider.domain.audit.append import append
from outrider.domain.messages.rows import POISON as SQL

CODE: Final = "poison"
CRASHES: Final = 3
"""A message in whose hands a worker died this often is set aside [F16]."""
_SHOWN: Final = 100


class Standing(msgspec.Struct, frozen=True):
    """How many messages are set aside in the whole installation, and since when the newest of them is."""

    count: int
    newest_at: datetime | None


async def set_aside(raw: asyncpg.Connection, tenant_id: UUID, ids: Sequence[UUID]) -> None:
    """Put messages on the list that failed just now; in the transaction that says so."""
    if ids:
        await SQL.set_aside.run(raw, tenant_id, list(ids))


async def listed(
    raw: asyncpg.Connection, tenant_id: UUID, *, limit: int, after: UUID | None = None, campaign_id: UUID | None = None
) -> list[asyncpg.Record]:
    """Messages that are set aside, oldest first."""
    return await SQL.listed.many(raw, tenant_id, after or NIL, limit, campaign_id)


async def ids(
    raw: asyncpg.Connection, tenant_id: UUID, *, campaign_id: UUID | None, limit: int = 100_000
) -> list[UUID]:
    """The ids a decision about all of them would concern, so that it can be counted and confirmed first."""
    return [row["message_id"] for row in await SQL.ids.many(raw, tenant_id, campaign_id, limit)]


async def requeue(
    uow: UnitOfWork, actor: Actor, tenant_id: UUID, message_ids: Sequence[UUID], *, reason: str
) -> list[UUID]:
    """Queue messages once more with the same bytes and Message-ID; audited.

    Each goes alone, and is set aside again the next time a worker dies over it: what is still broken costs one worker.

    Takes:   a unit of work of the engine role.
    Gives:   the ids that were set aside and are queued now; others are passed over.
    """
    rows = await SQL.requeue.many(uow.raw, tenant_id, list(message_ids), actor.name, reason, CRASHES - 1)
    done: list[UUID] = [row["id"] for row in rows]
    if done:
        shown = [str(message_id) for message_id in done[:_SHOWN]]
        await append(
            uow, actor, action="poison.requeue",
            target=("message", shown[0] if len(done) == 1 else f"{len(done)} messages"),
            reason=reason, details={"count": len(done), "ids": shown}, tenant_id=tenant_id,
        )  # fmt: skip
    return done


async def forget(raw: asyncpg.Connection, tenant_id: UUID, ids: Sequence[UUID]) -> None:
    """Take messages of an erased person off the list: nothing may go to them again."""
    await SQL.forget.run(raw, tenant_id, list(ids))


async def standing(raw: asyncpg.Connection) -> Standing:
    """How many there are in the whole installation (engine role)."""
    row = await SQL.standing.one(raw)
    return Standing(0, None) if row is None else Standing(row["n"], row["newest_at"])
