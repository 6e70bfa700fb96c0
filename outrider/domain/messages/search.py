"""Looking messages up: one with its timeline, or many by filter, newest first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from outrider.base.errors import Refused
from outrider.domain.messages import events
from outrider.domain.messages.rows import SQL
from outrider.domain.messages.states import STATES
from outrider.domain.senders import circuits

LAST = UUID(int=2**128 - 1)


@dataclass(frozen=True, slots=True)
class Filter:
    """What to look for; None leaves a filter off."""

    state: str | None = None
    campaign_id: UUID | None = None
    address: str | None = None
    channel: str | None = None


async def find(
    raw: asyncpg.Connection, tenant_id: UUID, wanted: Filter, *, limit: int, before: UUID | None = None
) -> list[asyncpg.Record]:
    """Messages of a tenant, newest first (engine role: its indexes work under no policy).

    Takes:   limit 1..1000; `before`: the last id of the page before.
    Raises:  Refused(unknown_state).
    """
    if wanted.state is not None and wanted.state not in STATES:
        raise Refused("unknown_state", f"must be one of {', '.join(STATES)}", field="state")
    if wanted.address is not None and wanted.campaign_id is None and wanted.channel is None:
        return await SQL.message_search_address.many(
            raw, tenant_id, before or LAST, limit, wanted.address, wanted.state
        )
    return await SQL.message_search.many(
        raw, tenant_id, before or LAST, limit, wanted.state, wanted.campaign_id, wanted.address, wanted.channel
    )


async def get(raw: asyncpg.Connection, tenant_id: UUID, message_id: UUID) -> tuple[asyncpg.Record, list[events.Event]]:
    """One message with everything that happened to it.

    Raises:  Refused(not_found).
    """
    row = await SQL.message_get.one(raw, tenant_id, message_id)
    if row is None:
        raise Refused("not_found", "no such message", field="message", status=404)
    return row, await events.timeline(raw, tenant_id, message_id)


async def waiting_for(
    raw: asyncpg.Connection, tenant_id: UUID, rows: Iterable[asyncpg.Record]
) -> dict[UUID, str | None]:
    """What each message waits for: its own reason, or why its sender's queue is held [F53]."""
    listed = list(rows)
    held = {row["sender_id"] for row in listed if row["state"] == "queued" and not row["waiting_for"]}
    why = await circuits.why_waiting(raw, tenant_id, held) if held else {}
    return {
        row["id"]: row["waiting_for"] or (why.get(row["sender_id"]) if row["state"] == "queued" else None)
        for row in listed
    }
