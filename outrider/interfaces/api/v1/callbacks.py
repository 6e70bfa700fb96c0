"""What providers reported, what was refused, what people wrote; exceptions for a while."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from litestar import delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from outrider.base.errors import Refused
from outrider.base.ids import parse_id
from outrider.base.moments import moment
from outrider.contracts.callbacks import Reports
from outrider.data.db import Role
from outrider.data.runtime import Runtime
from outrider.domain.callbacks import look
from outrider.domain.callbacks.address import callback_url, signer_of
from outrider.domain.callbacks.look import EventView, ExceptionView, InboundView, RefusalView
from outrider.domain.senders import connections
from outrider.engine.inbound import conversation
from outrider.engine.inbound.conversation import Turn
from outrider.interfaces.api.paging import Cursor, Limit, Page, cursor_of, page, read_cursor
from outrider.interfaces.api.v1.connections import vault_of
from outrider.interfaces.auth import Principal, needs

EventState = Literal["new", "parked", "applied", "orphan", "unknown", "unknown_number"]


Source = Annotated[str | None, QueryParameter(description="The address it came from, as events show it.")]


class Exceptions(msgspec.Struct):
    """Networks taken without a right signature for a while, newest first."""

    items: list[ExceptionView]


class ReplayIn(msgspec.Struct, forbid_unknown_fields=True):
    """Which reports are applied again: by id, or all since a moment."""

    ids: Annotated[list[UUID], msgspec.Meta(max_length=1000)] = []
    since: datetime | None = None
    reason: Annotated[str, msgspec.Meta(max_length=500)] = "not given"


class Replayed(msgspec.Struct):
    """How many reports are applied again."""

    count: int


class ExceptionIn(msgspec.Struct, forbid_unknown_fields=True):
    """A network to be taken without a right signature for some minutes, a day at most."""

    connection_id: UUID
    network: Annotated[str, msgspec.Meta(max_length=64)]
    minutes: int
    reason: Annotated[str, msgspec.Meta(max_length=500)]


class CallbackAddress(msgspec.Struct):
    """What the provider must be configured with; texts that people write go to the same address."""

    url: str
    provider: str


@get("/callbacks", guards=[needs("viewer", "senders:read")])
async def listed(
    *,
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
    in_state: FromQuery[EventState | None] = None,
    connection_id: FromQuery[UUID | None] = None,
    signature: FromQuery[Literal["genuine", "excepted"] | None] = None,
    repeated: FromQuery[bool] = False,
    source: FromQuery[Source] = None,
    since: FromQuery[datetime | None] = None,
    until: FromQuery[datetime | None] = None,
    limit: FromQuery[Limit] = 50,
    cursor: FromQuery[Cursor] = "",
) -> Page[EventView]:
    """List what providers told, newest first: by state, connection, signature, source and time, or only repeats."""
    before = read_cursor(cursor, tuple[UUID])
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        items = await look.events(
            uow, limit=limit, before=before[0] if before else None, state=in_state, connection_id=connection_id,
            signature=signature, repeated=repeated, source=source, since=moment(since, "?since"),
            until=moment(until, "?until"),
        )  # fmt: skip
    return page(items, limit, cursor_of(items[-1].id) if items else "")


@get("/callbacks/refusals", guards=[needs("viewer", "senders:read")])
async def refusals(
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
    limit: FromQuery[Limit] = 50,
    cursor: FromQuery[Cursor] = "",
) -> Page[RefusalView]:
    """List callbacks that were not taken by minute, source and reason: wrong signatures, other accounts."""
    before = read_cursor(cursor, tuple[datetime, UUID, str, str])
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        items = await look.refusals(uow, limit=limit, before=before)
    last = items[-1] if items else None
    return page(items, limit, cursor_of(last.minute, last.connection_id, last.source, last.reason) if last else "")


@post("/callbacks/replay", status_code=200, guards=[needs("admin", "senders:write")])
async def replayed(
    data: JSONBody[ReplayIn], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> Replayed:
    """Apply stored reports again; applying one twice changes nothing."""
    since = moment(data.since, "/since")
    async with runtime.db.uow(Role.ENGINE, principal.tenant_id) as uow:
        count = await look.replay(uow, principal.actor, ids=data.ids, since=since, reason=data.reason)
    return Replayed(count)


@get("/callbacks/exceptions", guards=[needs("viewer", "senders:read")])
async def exceptions(
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
    ended: FromQuery[bool] = False,  # noqa: FBT002 - the framework passes every argument by name
) -> Exceptions:
    """List networks whose callbacks are taken without a right signature."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return Exceptions(await look.exceptions(uow, with_ended=ended))


@post("/callbacks/exceptions", status_code=201, guards=[needs("admin", "senders:write")])
async def allowed(
    data: JSONBody[ExceptionIn], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> ExceptionView:
    """Take callbacks from a network without a right signature for some minutes, a day at most."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await look.allow(
            uow, vault_of(runtime), principal.actor, data.connection_id, data.network, minutes=data.minutes,
            reason=data.reason,
        )  # fmt: skip


@delete("/callbacks/exceptions/{exception_id:str}", status_code=204, guards=[needs("admin", "senders:write")])
async def ended(
    exception_id: FromPath[str], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> None:
    """End an exception now."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        await look.end(uow, principal.actor, parse_id(exception_id, "exception_id"))


@get("/connections/{connection_id:str}/callback", guards=[needs("viewer", "senders:read")])
async def address(
    connection_id: FromPath[str], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> CallbackAddress:
    """Show the address under which the provider of a connection is to report."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        found = await connections.get(uow, vault_of(runtime), parse_id(connection_id, "connection_id"))
    if not isinstance(runtime.providers[found.provider], Reports):
        raise Refused("not_for_provider", f"the provider {found.provider} does not report by itself", field="/id")
    signer = signer_of(runtime.keyring)
    named = (principal.tenant_id, found.id)
    url = callback_url(signer, runtime.settings.public_url, found.provider, found.settings, *named)
    return CallbackAddress(url, found.provider)


@get("/inbound", guards=[needs("viewer", "messages:read")])
async def inbound(
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
    flagged: FromQuery[bool] = False,  # noqa: FBT002 - the framework passes every argument by name
    limit: FromQuery[Limit] = 50,
    cursor: FromQuery[Cursor] = "",
) -> Page[InboundView]:
    """List what people wrote, newest first; flagged: only what somebody should read."""
    before = read_cursor(cursor, tuple[UUID])
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        items = await look.inbound(uow, limit=limit, before=before[0] if before else None, flagged=flagged)
    return page(items, limit, cursor_of(items[-1].id) if items else "")


@get("/contacts/{contact_id:str}/conversation", guards=[needs("viewer", "messages:read", also="contacts:read")])
async def talked(
    contact_id: FromPath[str],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
    limit: FromQuery[Limit] = 50,
    cursor: FromQuery[Cursor] = "",
) -> Page[Turn]:
    """Show what was sent to a contact and what they wrote, newest first, texts with their words."""
    identifier, before = parse_id(contact_id, "contact_id"), read_cursor(cursor, tuple[UUID])
    items = await conversation.with_contact(
        runtime, principal.tenant_id, identifier, limit=limit, before=before[0] if before else None
    )
    return page(items, limit, cursor_of(items[-1].id) if items else "")


ROUTES = [listed, refusals, replayed, exceptions, allowed, ended, address, inbound, talked]
