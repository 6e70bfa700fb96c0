"""Looking at callbacks: what came, what was refused, replaying, and exceptions for a while [S1-34, S1-84, S1-116]."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_network
from uuid import UUID

import asyncpg
import msgspec

from outrider.base.errors import Refused
from outrider.base.ids import NEWEST_ID
from outrider.contracts.actor import Actor
from outrider.data.db import UnitOfWork
from outrider.domain.audit.append import append
from outrider.domain.callbacks.rows import SQL
from outrider.domain.limits.reasons import NOT_GIVEN, clean_reason
from outrider.domain.senders import connections
from outrider.domain.senders.connections import Vault

LONGEST_EXCEPTION_MINUTES = 24 * 60
_MOST_REPORTS = 100_000
_WIDEST = {4: 16, 6: 32}
"""No exception is wider than this prefix: whoever is excepted may say anything about the tenant's messages."""


class EventView(msgspec.Struct, frozen=True):
    """A callback. repeats: how often it was told again; is_conflicting: once with another body."""

    id: UUID
    connection_id: UUID
    provider: str
    kind: str
    word: str
    provider_id: str
    message_id: UUID | None
    signature: str
    source: str
    state: str
    note: str
    attempts: int
    repeats: int
    is_conflicting: bool
    received_at: datetime
    applied_at: datetime | None


class RefusalView(msgspec.Struct, frozen=True):
    """Callbacks from one source that were not taken within a minute."""

    minute: datetime
    connection_id: UUID
    source: str
    reason: str
    count: int


class ExceptionView(msgspec.Struct, frozen=True):
    """A network whose callbacks are taken without a right signature until `ends_at`."""

    id: UUID
    connection_id: UUID
    network: str
    ends_at: datetime
    reason: str
    created_by: str
    created_at: datetime


class InboundView(msgspec.Struct, frozen=True):
    """What somebody wrote; `word` what it was understood as, `reply` what was answered at once."""

    id: UUID
    channel: str
    address: str
    number: str
    contact_id: UUID | None
    sender_id: UUID | None
    text: str
    media_count: int
    word: str
    is_flagged: bool
    reply: str
    received_at: datetime


@dataclass(frozen=True, slots=True)
class RepeatedId:
    """An id of a provider under which reports of two messages came: one of both may never have been taken [F62]."""

    tenant_id: UUID
    connection: str
    provider_id: str
    at: datetime


async def events(
    uow: UnitOfWork,
    *,
    limit: int,
    before: UUID | None = None,
    state: str | None = None,
    connection_id: UUID | None = None,
    signature: str | None = None,
    repeated: bool = False,
    source: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[EventView]:
    """Callbacks, newest first, `limit` (1..1000) of those before `before`; times with their offset."""
    rows = await SQL.events_page.many(
        uow.raw, uow.tenant, before or NEWEST_ID, limit, state, connection_id, signature, repeated, source, since, until
    )
    return [EventView(**dict(row)) for row in rows]


async def repeated_ids(raw: asyncpg.Connection) -> list[RepeatedId]:
    """Ids that a provider gave to two messages, by what was reported in the last day, all tenants (engine role).

    Gives:   at most twenty, the latest first, of the latest hundred thousand reports.
    """
    return [RepeatedId(**row) for row in await SQL.ids_repeated.many(raw, _MOST_REPORTS)]


async def refusals(
    uow: UnitOfWork, *, limit: int, before: tuple[datetime, UUID, str, str] | None = None
) -> list[RefusalView]:
    """Callbacks that were not taken, newest minute first; `before`: minute, connection, source, reason seen last."""
    last = before or (None, None, None, None)
    return [
        RefusalView(row["minute"], row["connection_id"], row["source"], row["reason"], row["n"])
        for row in await SQL.refusals.many(uow.raw, uow.tenant, limit, *last)
    ]


async def replay(
    uow: UnitOfWork, actor: Actor, *, ids: Sequence[UUID] = (), since: datetime | None = None, reason: str = NOT_GIVEN
) -> int:
    """Apply reports again, by id or all since a moment; audited. Gives how many (engine role).

    Raises:  Refused(required) when neither is given; Refused(invalid_choice) for both; Refused(invalid_reason).
    """
    if not ids and since is None:
        raise Refused("required", "say which: ids, or since when", field="/ids")
    if ids and since is not None:
        raise Refused("invalid_choice", "give ids, or since without ids", field="/since")
    why = clean_reason(reason)
    rows = await SQL.replay.many(uow.raw, uow.tenant, list(ids), since)
    details = {"count": len(rows), "since": since.isoformat() if since else None}
    await append(
        uow, actor, action="callback.replay", target=("callback", "many"), reason=why, details=details,
        tenant_id=uow.tenant,
    )  # fmt: skip
    return len(rows)


async def allow(
    uow: UnitOfWork, vault: Vault, actor: Actor, connection_id: UUID, network: str, *, minutes: int, reason: str
) -> ExceptionView:
    """Take callbacks from a network without a right signature, a day at most; audited.

    Raises:  Refused(not_found, invalid_network, out_of_range, required, invalid_reason).
    """
    await connections.get(uow, vault, connection_id)
    try:
        plain = ip_network(network.strip())
    except ValueError:
        raise Refused(
            "invalid_network", "must be an address or a network such as 192.0.2.0/24", field="/network"
        ) from None
    if plain.prefixlen < _WIDEST[plain.version]:
        raise Refused("invalid_network", f"may not be wider than /{_WIDEST[plain.version]}", field="/network")
    if not 1 <= minutes <= LONGEST_EXCEPTION_MINUTES:
        raise Refused("out_of_range", f"must be from 1 to {LONGEST_EXCEPTION_MINUTES}", field="/minutes")
    if not reason.strip():
        raise Refused("required", "say why: whoever is excepted can say anything about messages", field="/reason")
    why = clean_reason(reason)
    row = await SQL.exception_add.one(uow.raw, uow.tenant, connection_id, str(plain), minutes, why, actor.name)
    view = ExceptionView(**dict(row or {}))
    details = {"network": view.network, "minutes": minutes, "connection": str(connection_id)}
    target = ("callback_exception", str(view.id))
    await append(uow, actor, action="callback.allow", target=target, reason=why, details=details)
    return view


async def exceptions(
    uow: UnitOfWork, *, connection_id: UUID | None = None, with_ended: bool = False
) -> list[ExceptionView]:
    """Exceptions, newest first."""
    rows = await SQL.exceptions.many(uow.raw, uow.tenant, connection_id, with_ended)
    return [ExceptionView(**dict(row)) for row in rows]


async def end(uow: UnitOfWork, actor: Actor, exception_id: UUID) -> None:
    """End an exception now.

    Raises:  Refused(not_found).
    """
    if await SQL.exception_end.value(uow.raw, uow.tenant, exception_id) is None:
        raise Refused("not_found", "no such exception", field="/id", status=404)
    await append(uow, actor, action="callback.disallow", target=("callback_exception", str(exception_id)))


async def inbound(
    uow: UnitOfWork,
    *,
    limit: int,
    before: UUID | None = None,
    flagged: bool = False,
    address: str | None = None,
    channel: str | None = None,
) -> list[InboundView]:
    """What people wrote, newest first, `limit` (1..1000) of those before `before`; of one address with its channel."""
    rows = await SQL.inbound_page.many(uow.raw, uow.tenant, before or NEWEST_ID, limit, flagged, address, channel)
    return [InboundView(**dict(row)) for row in rows]
