"""What providers report of messages, on the ledger: the greatest state of the table of precedence holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from outrider.contracts.callbacks import State
from outrider.domain.messages.rows import SQL


@dataclass(frozen=True, slots=True)
class Reported:
    """The greatest of what was told about one message."""

    message_id: UUID
    state: State
    provider_id: str
    code: str = ""
    detail: str = ""


async def settle(raw: asyncpg.Connection, tenant_id: UUID, reports: Sequence[Reported]) -> dict[UUID, asyncpg.Record]:
    """Move messages to what was reported, with rollups; an uncertain one is certain then (engine role).

    Takes:   1..1000 reports of different messages.
    Gives:   id -> was (`locked`: somebody else is writing it, nothing was done), known, address, channel, is_moved; ids
             that are no message of the tenant are missing.
    """
    ids = [each.message_id for each in reports]
    rows = await SQL.reported.many(
        raw, tenant_id, ids, [each.state for each in reports], [each.provider_id for each in reports],
        [each.code for each in reports], [each.detail for each in reports], min(ids), max(ids),
    )  # fmt: skip
    return {row["id"]: row for row in rows}
