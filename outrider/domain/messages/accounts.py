"""Through which account messages went: where what is told about them belongs."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import asyncpg

from outrider.domain.messages.rows import SQL


async def connections_of(raw: asyncpg.Connection, tenant_id: UUID, ids: Sequence[UUID]) -> dict[UUID, UUID]:
    """The connection of each message's sender; messages that are gone are missing (engine role)."""
    rows = await SQL.connections_of.many(raw, tenant_id, list(ids), min(ids), max(ids))
    return {row["id"]: row["connection_id"] for row in rows}
