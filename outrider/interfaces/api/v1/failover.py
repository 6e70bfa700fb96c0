"""Fail-over: which connections take over for a sender, and which connections cannot be reached now."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import msgspec
from litestar import get, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from outrider.base.ids import parse_id
from outrider.data.db import Role
from outrider.data.runtime import Runtime
from outrider.domain.limits.reasons import NOT_GIVEN, clean_reason
from outrider.domain.senders import circuits, connections, fallbacks
from outrider.domain.senders.circuits import CircuitView
from outrider.domain.senders.fallbacks import FallbacksView
from outrider.interfaces.api.v1.connections import vault_of
from outrider.interfaces.auth import Principal, needs

Reason = Annotated[str, msgspec.Meta(max_length=500)]


class FallbacksIn(msgspec.Struct, forbid_unknown_fields=True):
    """The connections that take over, first one first; an empty list: none."""

    fallback_ids: Annotated[list[UUID], msgspec.Meta(max_length=fallbacks.MOST)]
    reason: Reason = NOT_GIVEN


class ResetIn(msgspec.Struct, forbid_unknown_fields=True):
    """Why a connection is taken for reachable again."""

    reason: Reason = NOT_GIVEN


class CircuitOut(msgspec.Struct):
    """How a connection is doing; null: nothing is known against it."""

    circuit: CircuitView | None


@get("/senders/{sender_id:str}/fallbacks", guards=[needs("viewer", "senders:read")])
async def shown(
    sender_id: FromPath[str], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> FallbacksView:
    """Say which connections take over when a sender's own cannot be reached."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await fallbacks.get(uow, parse_id(sender_id, "sender_id"))


@put("/senders/{sender_id:str}/fallbacks", guards=[needs("admin", "senders:write")])
async def chosen(
    sender_id: FromPath[str],
    data: JSONBody[FallbacksIn],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
) -> FallbacksView:
    """Say which connections take over; only what is known not to have left by one goes by the next."""
    identifier, reason = parse_id(sender_id, "sender_id"), clean_reason(data.reason)
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await fallbacks.choose(
            uow, vault_of(runtime), principal.actor, identifier, data.fallback_ids, reason=reason
        )


@get("/connections/{connection_id:str}/circuit", guards=[needs("viewer", "senders:read")])
async def circuit(
    connection_id: FromPath[str], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> CircuitOut:
    """Say whether a connection can be reached, as all workers see it together."""
    identifier = parse_id(connection_id, "connection_id")
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        await connections.get(uow, vault_of(runtime), identifier)
        return CircuitOut(await circuits.of_connection(uow, identifier))


@post("/connections/{connection_id:str}/circuit/reset", status_code=204, guards=[needs("admin", "senders:write")])
async def reset(
    connection_id: FromPath[str],
    data: JSONBody[ResetIn],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
) -> None:
    """Take a connection for reachable again, at once and without a slow start; for after a repair."""
    identifier, reason = parse_id(connection_id, "connection_id"), clean_reason(data.reason)
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        await connections.get(uow, vault_of(runtime), identifier)
        await circuits.reset(uow, principal.actor, identifier, reason=reason)


ROUTES = [shown, chosen, circuit, reset]
