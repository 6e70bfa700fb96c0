"""Segments: named rules about contacts, counted before use; and the search for contacts by the same rules."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import msgspec
from litestar import delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from outrider.base.ids import parse_id
from outrider.data.db import Role
from outrider.data.runtime import Runtime
from outrider.domain.contacts.views import ContactView
from outrider.domain.segments import rules, segments
from outrider.domain.segments.segments import Count, NewSegment, SegmentChange, SegmentView
from outrider.interfaces.api.paging import Cursor, Limit, Page, cursor_of, page, read_cursor
from outrider.interfaces.auth import Principal, needs

Channel = Annotated[str, QueryParameter(max_length=40, description="Also count who has an address in it; slower.")]


class RulesIn(msgspec.Struct, forbid_unknown_fields=True):
    """Rules that have no name; without any: everybody."""

    rules: rules.Rule = rules.EVERYBODY
    channel: Annotated[str, msgspec.Meta(max_length=40)] | None = None


class SearchIn(msgspec.Struct, forbid_unknown_fields=True):
    """Whom to look for: `text` in name, external id or an address, and any rules of a segment."""

    text: Annotated[str, msgspec.Meta(max_length=200)] = ""
    rules: rules.Rule = rules.EVERYBODY
    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 50
    cursor: Annotated[str, msgspec.Meta(max_length=1024)] = ""


@post("/segments", status_code=201, guards=[needs("operator", "contacts:write")])
async def create(
    data: JSONBody[NewSegment], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> SegmentView:
    """Make a segment; count its rules first with POST /segments/count."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await segments.create(uow, principal.actor, data)


@get("/segments", guards=[needs("viewer", "contacts:read")])
async def listed(
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
    limit: FromQuery[Limit] = 50,
    cursor: FromQuery[Cursor] = "",
) -> Page[SegmentView]:
    """List segments in the order they were made."""
    after = read_cursor(cursor, tuple[UUID])
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        items = await segments.listed(uow, limit=limit, after=after[0] if after else None)
    return page(items, limit, cursor_of(items[-1].id) if items else "")


@post("/segments/count", status_code=200, guards=[needs("viewer", "contacts:read")])
async def counted(
    data: JSONBody[RulesIn], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> Count:
    """Count the contacts for whom some rules hold now; nothing is stored."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await segments.count(uow, data.rules, channel=data.channel)


@get("/segments/{segment_id:str}", guards=[needs("viewer", "contacts:read")])
async def shown(
    segment_id: FromPath[str], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> SegmentView:
    """Show one segment with its rules and what was last counted."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await segments.get(uow, parse_id(segment_id, "segment_id"))


@patch("/segments/{segment_id:str}", guards=[needs("operator", "contacts:write")])
async def changed(
    segment_id: FromPath[str],
    data: JSONBody[SegmentChange],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
) -> SegmentView:
    """Change a segment; campaigns that were launched keep what it said then."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await segments.update(uow, principal.actor, parse_id(segment_id, "segment_id"), data)


@delete("/segments/{segment_id:str}", status_code=204, guards=[needs("operator", "contacts:write")])
async def deleted(
    segment_id: FromPath[str], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> None:
    """Delete a segment that no campaign and no other segment names."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        await segments.delete(uow, principal.actor, parse_id(segment_id, "segment_id"))


@post("/segments/{segment_id:str}/count", status_code=200, guards=[needs("support", "contacts:write")])
async def counted_anew(
    segment_id: FromPath[str],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
    channel: FromQuery[Channel] = "",
) -> Count:
    """Count a segment now and keep the number with it."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await segments.count_segment(uow, parse_id(segment_id, "segment_id"), channel=channel or None)


@get("/segments/{segment_id:str}/contacts", guards=[needs("viewer", "contacts:read")])
async def members(
    segment_id: FromPath[str],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
    limit: FromQuery[Limit] = 50,
    cursor: FromQuery[Cursor] = "",
) -> Page[ContactView]:
    """List the contacts that belong to a segment now."""
    after = read_cursor(cursor, tuple[UUID])
    identifier = parse_id(segment_id, "segment_id")
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        await segments.get(uow, identifier)
        rule = rules.InSegment(identifier)
        items = list(await segments.contacts(uow, rule, limit=limit, after=after[0] if after else None))
    return page(items, limit, cursor_of(items[-1].id) if items else "")


@post("/contacts/search", status_code=200, guards=[needs("viewer", "contacts:read")])
async def searched(
    data: JSONBody[SearchIn], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> Page[ContactView]:
    """Search contacts by a text, by rules, or both. A body, because addresses do not belong in URLs."""
    after = read_cursor(data.cursor, tuple[UUID])
    rule = rules.AllOf([rules.Anywhere(data.text), data.rules]) if data.text else data.rules
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        items = list(await segments.contacts(uow, rule, limit=data.limit, after=after[0] if after else None))
    return page(items, data.limit, cursor_of(items[-1].id) if items else "")


ROUTES = [create, listed, counted, shown, changed, deleted, counted_anew, members, searched]
