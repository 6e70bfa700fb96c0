"""Events: the append-only story of each message."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from outrider.domain.messages.rows import SQL
from outrider.domain.messages.states import END_STATES

KINDS = (
    *END_STATES,
    "held", "deferred", "rescued", "resent", "reported",
    "opened", "clicked", "machine_opened", "machine_clicked", "unsubscribed",
)  # fmt: skip
"""Everything that happens to messages: an end, a step on the way to it, what its reader did."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a message. `data` holds its facts."""

    at: datetime
    kind: str
    data: dict[str, Any]


async def append(raw: asyncpg.Connection, tenant_id: UUID, message_id: UUID, kind: str, data: dict[str, Any]) -> None:
    """Add one event to a message's timeline, in the caller's transaction (engine role)."""
    await SQL.event_append.run(raw, tenant_id, message_id, kind, orjson.dumps(data).decode())


async def append_many(
    raw: asyncpg.Connection, tenant_id: UUID, told: Sequence[tuple[UUID, datetime, str, dict[str, Any]]]
) -> None:
    """Add events to several messages' timelines: message, moment, kind, data; one statement (engine role)."""
    if told:
        ids, moments, kinds, data = zip(*told, strict=True)
        texts = [orjson.dumps(each).decode() for each in data]
        await SQL.events_append.run(raw, tenant_id, list(ids), list(moments), list(kinds), texts)


async def timeline(raw: asyncpg.Connection, tenant_id: UUID, message_id: UUID) -> list[Event]:
    """Everything that happened to a message, oldest first, at most 1,000 entries."""
    return [
        Event(row["at"], row["kind"], orjson.loads(row["data"]) if row["data"] else {})
        for row in await SQL.events_of.many(raw, tenant_id, message_id)
    ]
