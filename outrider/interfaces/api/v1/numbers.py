"""Numbers that senders send from, and what a text comes to before it is sent."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import msgspec
from litestar import delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody

from outrider.base.ids import parse_id
from outrider.data.db import Role
from outrider.data.runtime import Runtime
from outrider.domain.contacts.channels import channel_of
from outrider.domain.messages import quotes
from outrider.domain.messages.quotes import PricedMeasure
from outrider.domain.senders import numbers
from outrider.domain.senders.numbers import NumberView
from outrider.interfaces.api.paging import Cursor, Limit, Page, cursor_of, page, read_cursor
from outrider.interfaces.auth import Principal, needs


class NumberIn(msgspec.Struct, forbid_unknown_fields=True):
    """A number for a sender's pool."""

    number: Annotated[str, msgspec.Meta(max_length=64)]
    sender_id: UUID


class NumberChange(msgspec.Struct, forbid_unknown_fields=True):
    """Whether the number is used for what is sent from now on."""

    is_active: bool


class TextIn(msgspec.Struct, forbid_unknown_fields=True):
    """A finished text, and who would get it, in any form usual in the tenant's country: the price depends on that."""

    text: Annotated[str, msgspec.Meta(max_length=10_000)]
    channel: str = "sms"
    to: Annotated[str, msgspec.Meta(max_length=320)] | None = None


@post("/numbers", status_code=201, guards=[needs("admin", "senders:write")])
async def added(
    data: JSONBody[NumberIn], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> NumberView:
    """Put a number into a sender's pool; everybody keeps hearing from the same one."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await numbers.add(uow, runtime.channels, principal.actor, data.sender_id, data.number)


@get("/numbers", guards=[needs("viewer", "senders:read")])
async def listed(
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
    sender_id: FromQuery[UUID | None] = None,
    limit: FromQuery[Limit] = 50,
    cursor: FromQuery[Cursor] = "",
) -> Page[NumberView]:
    """List the numbers of pools in the order they were added."""
    after = read_cursor(cursor, tuple[UUID])
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        items = await numbers.listed(uow, limit=limit, after=after[0] if after else None, sender_id=sender_id)
    return page(items, limit, cursor_of(items[-1].id) if items else "")


@patch("/numbers/{number_id:str}", guards=[needs("admin", "senders:write")])
async def changed(
    number_id: FromPath[str],
    data: JSONBody[NumberChange],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
) -> NumberView:
    """Use a number, or let it rest: people who heard from it hear from another one then."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        identifier = parse_id(number_id, "number_id")
        return await numbers.change(uow, principal.actor, identifier, is_active=data.is_active)


@delete("/numbers/{number_id:str}", status_code=204, guards=[needs("admin", "senders:write")])
async def removed(
    number_id: FromPath[str], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> None:
    """Take a number out of its pool."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        await numbers.remove(uow, principal.actor, parse_id(number_id, "number_id"))


@post("/messages/measure", status_code=200, guards=[needs("viewer", "messages:read")])
async def counted(
    data: JSONBody[TextIn], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> PricedMeasure:
    """Say in how many parts a text is sent and billed, and what it costs, before it is sent. Sends nothing."""
    channel = channel_of(runtime.channels, data.channel)
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await quotes.of_text(uow, channel, data.text, data.to)


ROUTES = [added, listed, changed, removed, counted]
