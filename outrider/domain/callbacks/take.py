"""Taking callbacks in: each is kept once, in the transaction after which the provider is answered."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from outrider.contracts.callbacks import Inbound, Report, Told, Unread
from outrider.domain.callbacks.rows import SQL

# an inbound text is applied in the very transaction that keeps it; the loop must not find it
_STATES = {"report": "new", "inbound": "unknown_number", "unknown": "unknown"}
_LONGEST_KEY = 200


@dataclass(frozen=True, slots=True)
class Came:
    """One thing that was told, by whom, and how it was verified."""

    connection_id: UUID
    provider: str
    told: Told
    body_hash: bytes
    signature: str
    source: str


@dataclass(frozen=True, slots=True)
class Kept:
    """The row of what came; `is_new`: for the first time; `is_other`: it said something else the first time."""

    id: UUID
    is_new: bool
    is_other: bool


async def take_in(raw: asyncpg.Connection, tenant_id: UUID, came: Sequence[Came]) -> list[Kept]:
    """Keep what came of one tenant; one statement (engine role).

    Gives:   one answer each, in order. Of several alike in one call the first is new, the others repeats.
    """
    alike: dict[tuple[UUID, str], list[Came]] = {}
    for each in came:
        alike.setdefault((each.connection_id, key_of(each.told)), []).append(each)
    columns = zip(*(_row(same) for same in alike.values()), strict=True)
    rows = await SQL.take_in.many(raw, tenant_id, *map(list, columns))
    found = {(row["connection_id"], row["event_key"]): row for row in rows}
    kept: list[Kept] = []
    for each in came:
        key = (each.connection_id, key_of(each.told))
        row = found[key]
        kept.append(Kept(row["id"], row["is_new"] and alike[key][0] is each, bytes(row["body_hash"]) != each.body_hash))
    return kept


async def refused(raw: asyncpg.Connection, tenant_id: UUID, counts: Sequence[tuple[UUID, str, str, int]]) -> None:
    """Count callbacks that were not taken: connection, source, reason, how many (engine role)."""
    await SQL.refused.run(raw, tenant_id, *map(list, zip(*counts, strict=True)))


def _row(alike: Sequence[Came]) -> tuple[Any, ...]:
    """The row of one thing, told once or several times."""
    came = alike[0]
    told = came.told
    message_id: UUID | None = None
    match told:
        case Report():
            kind, word, provider_id, message_id = "report", told.word, told.provider_id, told.message_id
        case Inbound():
            kind, word, provider_id = "inbound", "received", told.provider_id
        case Unread():
            kind, word, provider_id = "unknown", told.word, ""
    return (
        came.connection_id, came.provider, key_of(told), kind, word[:60], provider_id[:200], message_id,
        orjson.dumps(data_of(told)).decode(), came.body_hash, came.signature, came.source[:60], _STATES[kind],
        len(alike) - 1, any(each.body_hash != came.body_hash for each in alike),
    )  # fmt: skip


def key_of(told: Told) -> str:
    """By what something is known again; of one that is very long the beginning and a hash of all of it."""
    if len(told.key) <= _LONGEST_KEY:
        return told.key
    digest = hashlib.sha256(told.key.encode(errors="replace")).hexdigest()
    return f"{told.key[: _LONGEST_KEY - len(digest) - 1]}:{digest}"


def data_of(told: Told) -> dict[str, Any]:
    """What is needed to apply a report again; nothing of a person."""
    if not isinstance(told, Report):
        return {}
    return {
        "state": told.state,
        "cause": told.cause,
        "detail": told.detail,
        "suppress": told.suppress,
        "is_soft": told.is_soft,
        "at": None if told.at is None else told.at.isoformat(),
        "price": None if told.price is None else str(told.price),
        "currency": told.currency,
    }
