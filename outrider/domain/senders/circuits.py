"""Circuits: connections that could not be reached lately, as all workers see them together.

A connection that reaches nobody several times in a row is left alone for a while (open). Then one message tries it;
when that goes, it may take more from look to look (half-open), until it is trusted again (closed: no row). Owns these
rows and what they mean; which connection a message takes is the dispatcher's.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

import asyncpg
import msgspec

from outrider.base.errors import Refused
from outrider.base.settings import Settings
from outrider.contracts.actor import Actor
from outrider.data.db import UnitOfWork
from outrider.domain.audit.append import append
from outrider.domain.senders.rows import FAILOVER

State = Literal["closed", "open", "half_open"]
TRY_S = 30.0
"""So long one message may take to try a connection; then another worker may."""


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

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """As the operator wants them."""
        return cls(
            settings.circuit_failures,
            settings.circuit_open_s,
            max(settings.circuit_open_s, settings.circuit_open_most_s),
            settings.circuit_close_after,
        )


async def failed(raw: asyncpg.Connection, tenant_id: UUID, connection_id: UUID, cause: str, limits: Limits) -> State:
    """Note that a batch reached nobody by a connection; gives how its circuit is now."""
    state: State = await FAILOVER.circuit_failed.value(
        raw, tenant_id, connection_id, cause, limits.failures, limits.open_s, limits.most_open_s
    )
    return state


async def passed(raw: asyncpg.Connection, tenant_id: UUID, connection_id: UUID, count: int, limits: Limits) -> None:
    """Note that messages were accepted by a connection that had failed."""
    await FAILOVER.circuit_passed.run(raw, tenant_id, connection_id, count)
    await FAILOVER.circuit_close.run(raw, tenant_id, connection_id, limits.close_after)


async def take_try(raw: asyncpg.Connection, tenant_id: UUID, connection_id: UUID) -> bool:
    """Whether the caller is the one whose next message tries a connection."""
    return await FAILOVER.circuit_try.value(raw, tenant_id, connection_id, TRY_S) is not None


async def of_connection(uow: UnitOfWork, connection_id: UUID) -> CircuitView | None:
    """How one connection is doing; None: nothing is known against it."""
    row = await FAILOVER.circuit_get.one(uow.raw, uow.tenant, connection_id)
    return None if row is None else CircuitView(**row)


async def reset(uow: UnitOfWork, actor: Actor, connection_id: UUID, *, reason: str) -> None:
    """Take a connection for reachable again, at once and without a slow start; for after a repair.

    Takes:   a unit of work of the app role. Workers see it within five seconds.
    Raises:  Refused(circuit_closed, 409) when nothing is known against it.
    """
    state = await FAILOVER.circuit_reset.value(uow.raw, uow.tenant, connection_id)
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
