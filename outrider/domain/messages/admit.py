"""Admission: messages are accepted in one transaction with their idempotency key, all or none."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from outrider.base.errors import Refused
from outrider.contracts.gate import MessageClass
from outrider.data.db import UnitOfWork
from outrider.domain.limits import sources
from outrider.domain.messages import quota
from outrider.domain.messages.lanes import lane_for
from outrider.domain.messages.rows import SQL

LONGEST_KEY = 256
_TEXTS = "sms"


@dataclass(frozen=True, slots=True)
class LaneKey:
    """What decides the lane and the shared columns of accepted messages."""

    channel: str
    sender_id: UUID
    message_class: MessageClass
    purpose: str
    priority: int


@dataclass(slots=True)
class NewMessage:
    """One checked message. `address` is normalised, `variables` is the JSON object text or None.

    `source`: who asked for it, for limits per source; empty: nobody is counted.
    """

    address: str
    content_id: UUID
    variables: str | None = None
    contact_id: UUID | None = None
    due_at: datetime | None = None
    expires_at: datetime | None = None
    source: str = ""


@dataclass(frozen=True, slots=True)
class Replay:
    """The answer that was given under this key before."""

    status: int
    body: str


async def admit(uow: UnitOfWork, tenant_id: UUID, key: LaneKey, messages: list[NewMessage]) -> list[UUID]:
    """Accept messages of one lane: ledger, queue and rollup in one statement.

    Takes:   a unit of work of the engine role; 1..5,000 messages.
    Gives:   their ids, in order. Nothing is accepted unless the unit of work commits.
    Raises:  Refused(tenant_queue_full, 429), Unavailable(queue_full).
    """
    await quota.require(uow.raw, tenant_id, key.message_class, len(messages))
    lane_id = await lane_for(
        uow,
        tenant_id=tenant_id,
        channel=key.channel,
        sender_id=key.sender_id,
        campaign_id=None,
        message_class=key.message_class,
    )
    return await admit_to(uow.raw, tenant_id, lane_id, key, messages)


async def admit_to(
    raw: asyncpg.Connection,
    tenant_id: UUID,
    lane_id: int,
    key: LaneKey,
    messages: Sequence[NewMessage],
    idempotency: Sequence[tuple[str, bytes] | None] = (),
) -> list[UUID]:
    """The same where the lane is known; the caller has made sure of room (quota.py).

    Takes:   idempotency  for single calls: of each message the key and the hash of its request, under which its answer
             is kept (as `keep` does).
    Raises:  asyncpg.UniqueViolationError when an answer is kept under such a key already.
    """
    rows = await SQL.admit.many(
        raw, tenant_id, lane_id,
        [message.address for message in messages], [message.variables for message in messages],
        [message.content_id for message in messages], [message.contact_id for message in messages],
        [message.due_at for message in messages], [message.expires_at for message in messages],
        key.purpose, key.priority,
        [given[0] if given else None for given in idempotency], [given[1] if given else None for given in idempotency],
    )  # fmt: skip
    ids = [row["id"] for row in rows]
    if key.channel == _TEXTS:
        addresses, named = [message.address for message in messages], [message.source for message in messages]
        await sources.note(raw, tenant_id, ids, addresses, named)
    return ids


def check_key(key: str, *, field: str = "Idempotency-Key") -> str:
    """An idempotency key as given by a program or a person.

    Raises:  Refused(bad_idempotency_key, 400).
    """
    if not (0 < len(key) <= LONGEST_KEY and key.isascii() and key.isprintable()):
        raise Refused(
            "bad_idempotency_key", f"must be 1 to {LONGEST_KEY} printable ASCII characters", field=field, status=400
        )
    return key


def request_hash(body: bytes) -> bytes:
    """What makes two requests under one key the same request."""
    return hashlib.sha256(body).digest()


async def replay_of(raw: asyncpg.Connection, tenant_id: UUID, key: str, body: bytes) -> Replay | None:
    """Look an idempotency key up and hold it for the rest of the transaction.

    Gives:   the earlier answer, or None when this is the first request under the key.
    Raises:  Refused(idempotency_in_progress, 409) while another request runs under it;
             Refused(idempotency_mismatch, 422) when it was used with another body.
    Source:  architecture.md section 6 (rulings).
    """
    if not await SQL.idempotency_lock.value(raw, tenant_id, key):
        raise in_progress()
    found = await SQL.idempotency_find.one(raw, tenant_id, key)
    if found is None:
        return None
    if bytes(found["request_hash"]) != request_hash(body):
        raise mismatch()
    return Replay(found["status"], found["body"])


def in_progress() -> Refused:
    """Why a call is refused while another runs under its key."""
    return Refused("idempotency_in_progress", "a request with this key is still running; ask again", status=409)


def mismatch() -> Refused:
    """Why a call is refused whose key was used with another body."""
    return Refused("idempotency_mismatch", "this key was used with another body", field="Idempotency-Key")


async def keep(raw: asyncpg.Connection, tenant_id: UUID, key: str, body: bytes, answer: Replay) -> None:
    """Store the answer under its key, in the transaction that accepts."""
    await SQL.idempotency_keep.run(raw, tenant_id, key, request_hash(body), answer.status, answer.body)
