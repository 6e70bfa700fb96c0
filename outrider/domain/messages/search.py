"""Looking messages up: one with its timeline, or many by filter, newest first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import asyncpg

from outrider.base.errors import Refused
from outrider.domain.messages import causes, events
from outrider.domain.messages.rows import SQL
from outrider.domain.messages.states import STATES
from outrider.domain.senders import circuits

LAST = UUID(int=2**128 - 1)
_BROUGHT: Final = frozenset({"failed", "bounced", "uncertain"})
_WAITS: Final = frozenset({"scheduled", "queued", "held"})


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


@dataclass(frozen=True, slots=True)
class Explained:
    """Why a message stands where it does.

    waiting_for  its own reason to wait, or why its sender's queue is held [F53]
    cause        what it failed by, is uncertain by or waits for, in words; None: by nothing of that kind
    """

    waiting_for: str | None
    cause: causes.CauseView | None


async def explained(raw: asyncpg.Connection, tenant_id: UUID, rows: Iterable[asyncpg.Record]) -> dict[UUID, Explained]:
    """Why each message waits, failed or is uncertain, and what to do about it [S0-34 to S0-38]."""
    listed = list(rows)
    held = {row["sender_id"] for row in listed if row["state"] == "queued" and not row["waiting_for"]}
    why = await circuits.why_waiting(raw, tenant_id, held) if held else {}
    return {row["id"]: _explained(row, why.get(row["sender_id"])) for row in listed}


def _explained(row: asyncpg.Record, held: circuits.Waiting | None) -> Explained:
    state, own = row["state"], row["waiting_for"]
    if state in _BROUGHT:
        return Explained(own, causes.view(row["code"], state))
    if state == "queued" and not own and held is not None:
        return Explained(held.reason, causes.view(held.cause, state))
    return Explained(own, causes.view(own, state) if state in _WAITS else None)
