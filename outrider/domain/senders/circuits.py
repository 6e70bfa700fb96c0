"""Circuits: connections that could not be reached lately, as all workers see them together.

A connection that reaches nobody several times in a row is left alone for a while (open); one whose account is refused
or slowed down at once. Then one message tries it; when that goes, it may take more from look to look (half-open), until
it is trusted again (closed: no row). What concerns an account holds for every connection of it, whichever tenant has
entered it: one message tries it for all, and when that goes all may take a few, so that nobody waits for the others.
The same account has the same credentials (domain/limits/shared_accounts.py): nobody opens the circuit of one whose
name is all they know. Owns these rows and what they mean; which connection a message takes is the dispatcher's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

import asyncpg
import msgspec

from outrider.base.errors import Refused
from outrider.base.settings import Settings
from outrider.contracts.actor import Actor
from outrider.contracts.outcome import OF_ACCOUNT, REFUSED
from outrider.data.db import UnitOfWork
from outrider.domain.audit.append import append
from outrider.domain.senders.rows import FAILOVER

State = Literal["closed", "open", "half_open"]
TRY_S = 15.0
"""So long one message may take to try a connection; then another worker may: who took the try may have died with it.
When it only took longer, two messages try."""
_OF_ACCOUNT = sorted(OF_ACCOUNT)
_QUARTER_HOUR_S = 900.0
_FIRST_PAUSE_S = 1.0
"""So long an account rests that is told to slow down and not for how long; twice as long each time again."""


class CircuitView(msgspec.Struct, frozen=True):
    """How a connection is doing. `failures`: batches in a row that reached nobody; `passed`: messages since its try.

    try_at  when one message tries it (open), or by when it must have (half_open)
    """

    state: State
    failures: int
    passed: int
    cause: str
    failed_at: datetime
    opened_at: datetime | None
    try_at: datetime | None


@dataclass(frozen=True, slots=True)
class Limits:
    """When circuits open and close: the settings `circuit_…`."""

    failures: int
    open_s: float
    most_open_s: float
    close_after: int
    refused_s: float = 60.0

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """As the operator wants them."""
        return cls(
            settings.circuit_failures,
            settings.circuit_open_s,
            max(settings.circuit_open_s, settings.circuit_open_most_s),
            settings.circuit_close_after,
            settings.circuit_refused_s,
        )

    def after(self, cause: str, wish_s: float | None) -> tuple[int, float, float]:
        """What a failure leads to: how many open the circuit, for how long, and for how long at most."""
        if cause == "daily_quota":
            rest_s = max(_QUARTER_HOUR_S, wish_s or 0.0)
            return 1, rest_s, rest_s
        if cause in REFUSED:
            return 1, self.refused_s, self.refused_s
        if cause in OF_ACCOUNT:
            rest_s = wish_s or min(_FIRST_PAUSE_S, self.open_s)
            return 1, rest_s, wish_s or self.most_open_s
        return self.failures, max(self.open_s, wish_s or 0.0), max(self.most_open_s, wish_s or 0.0)


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why a sender's queue is held: which connection, what is known against it and until when; and the cause's code."""

    reason: str
    cause: str


async def failed(
    raw: asyncpg.Connection,
    tenant_id: UUID,
    connection_id: UUID,
    cause: str,
    limits: Limits,
    *,
    wish_s: float | None = None,
    version: int | None = None,
    age_s: float = 0.0,
) -> State:
    """Note that a batch reached nobody by a connection; gives how its circuit is. Every worker hears that it opened.

    Takes:   wish_s: for how long the provider asked to be left alone; version: of the connection that was used, so that
             what an old password led to is not held against the new one; age_s: how long ago the batch was begun, so
             that what was under way when the circuit opened is not held against the try that came after it.
    """
    first, rest_s, most_s = limits.after(cause, wish_s)
    account = await FAILOVER.circuit_account.value(raw, tenant_id, connection_id) if cause in OF_ACCOUNT else None
    row = await FAILOVER.circuit_failed.one(
        raw, tenant_id, connection_id, cause, first, rest_s, most_s, version, wish_s is not None, age_s
    )
    if row is None:
        return "closed"
    state: State = row["state"]
    if state != "open":
        return state
    told = [connection_id] if row["is_news"] else []
    if account is not None:
        others = await FAILOVER.circuit_spread.many(raw, tenant_id, connection_id, account, _OF_ACCOUNT)
        told += [each["connection_id"] for each in others]
    if told:
        await FAILOVER.circuit_tell.run(raw, told, "open")
    return state


async def passed(raw: asyncpg.Connection, tenant_id: UUID, connection_id: UUID, count: int, limits: Limits) -> None:
    """Note that messages were accepted by a connection that had failed."""
    account = await FAILOVER.circuit_account.value(raw, tenant_id, connection_id)
    state = await FAILOVER.circuit_passed.value(raw, tenant_id, connection_id, count)
    if state == "half_open" and account is not None:
        await FAILOVER.circuit_follow.run(raw, tenant_id, connection_id, account, _OF_ACCOUNT)
    was = await FAILOVER.circuit_close.value(raw, tenant_id, connection_id, limits.close_after)
    if was == "half_open" and account is not None:
        await FAILOVER.circuit_close_others.run(raw, tenant_id, connection_id, account, _OF_ACCOUNT)


async def take_try(raw: asyncpg.Connection, tenant_id: UUID, connection_id: UUID) -> bool:
    """Whether the caller is the one whose next message tries a connection, for all that have entered its account.

    Never waits for anybody: who changes the account's circuit just now decides, and the next look tells. In one
    transaction, also where each statement of the caller is committed by itself: else the account is free again at once.
    """
    async with raw.transaction():
        held = await FAILOVER.circuit_account_free.one(raw, tenant_id, connection_id)
        if held is None or not held["is_free"]:
            return False
        if await FAILOVER.circuit_try.value(raw, tenant_id, connection_id, TRY_S) is None:
            return False
        if held["account"] is not None:
            await FAILOVER.circuit_follow.run(raw, tenant_id, connection_id, held["account"], _OF_ACCOUNT)
    return True


async def untried(raw: asyncpg.Connection, tenant_id: UUID, connection_id: UUID) -> None:
    """Give back a try that did not get so far."""
    account = await FAILOVER.circuit_account.value(raw, tenant_id, connection_id)
    given_back = await FAILOVER.circuit_untried.value(raw, tenant_id, connection_id)
    if given_back is not None and account is not None:
        await FAILOVER.circuit_follow.run(raw, tenant_id, connection_id, account, _OF_ACCOUNT)


async def why_waiting(raw: asyncpg.Connection, tenant_id: UUID, sender_ids: Iterable[UUID]) -> dict[UUID, Waiting]:
    """Why what is queued of senders does not go now, as far as their connections are the reason."""
    rows = await FAILOVER.senders_waiting.many(raw, tenant_id, list(set(sender_ids)))
    return {row["sender_id"]: Waiting(_why(row), row["cause"]) for row in rows}


def _why(row: asyncpg.Record) -> str:
    what = f"tried again at {row['try_at']:%F %T} UTC" if row["state"] == "open" else "being tried again"
    return f"connection {row['name']}: {row['cause']}, {what}"


async def forget(uow: UnitOfWork, connection_id: UUID) -> State | None:
    """Forget what is known against a connection, because it is another one now; gives how its circuit was."""
    state: State | None = await FAILOVER.circuit_reset.value(uow.raw, uow.tenant, connection_id)
    if state is not None:
        await FAILOVER.circuit_tell.run(uow.raw, [connection_id], "closed")
    return state


async def of_connection(uow: UnitOfWork, connection_id: UUID) -> CircuitView | None:
    """How one connection is doing; None: nothing is known against it."""
    row = await FAILOVER.circuit_get.one(uow.raw, uow.tenant, connection_id)
    return None if row is None else CircuitView(**row)


async def reset(uow: UnitOfWork, actor: Actor, connection_id: UUID, *, reason: str) -> None:
    """Take a connection for reachable again, at once and without a slow start; for after a repair.

    Takes:   a unit of work of the app role. Workers see it within five seconds.
    Raises:  Refused(circuit_closed, 409) when nothing is known against it.
    """
    state = await forget(uow, connection_id)
    if state is None:
        raise Refused("circuit_closed", "nothing is known against this connection", field="/id", status=409)
    target = ("connection", str(connection_id))
    await append(uow, actor, action="connection.circuit_reset", target=target, reason=reason, details={"was": state})


@dataclass(frozen=True, slots=True)
class OpenCircuit:
    """A connection of any tenant that cannot be reached, or is being tried again."""

    tenant_id: UUID
    name: str
    state: State
    cause: str
    opened_at: datetime


async def open_ones(raw: asyncpg.Connection) -> list[OpenCircuit]:
    """What cannot be reached now, all tenants, at most a thousand; those longest known first."""
    return [OpenCircuit(**row) for row in await FAILOVER.circuits_open.many(raw)]
