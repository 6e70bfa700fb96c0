"""Lists of contacts."""

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
from outrider.domain.contacts import lists
from outrider.domain.contacts.views import ListView, MemberView
from outrider.interfaces.api.paging import Cursor, Limit, Page, cursor_of, page, read_cursor
from outrider.interfaces.auth import Principal, needs

Name = Annotated[str, msgspec.Meta(max_length=200)]


class ListIn(msgspec.Struct, forbid_unknown_fields=True):
    """The name of a list."""

    name: Name


class MembersIn(msgspec.Struct, forbid_unknown_fields=True):
    """Contacts by id."""

    contact_ids: Annotated[list[UUID], msgspec.Meta(min_length=1, max_length=lists.MOST_AT_ONCE)]


@post("/lists", status_code=201, guards=[needs("support", "contacts:write")])
async def create(
    data: JSONBody[ListIn], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> ListView:
    """Make a list."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await lists.create(uow, principal.actor, data.name)


@get("/lists", guards=[needs("viewer", "contacts:read")])
async def listed(
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
    limit: FromQuery[Limit] = 50,
    cursor: FromQuery[Cursor] = "",
) -> Page[ListView]:
    """List the lists in the order they were made."""
    after = read_cursor(cursor, tuple[UUID])
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        items = await lists.listed(uow, limit=limit, after=after[0] if after else None)
    return page(items, limit, cursor_of(items[-1].id) if items else "")


@get("/lists/{list_id:str}", guards=[needs("viewer", "contacts:read")])
async def shown(
    list_id: FromPath[str], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> ListView:
    """Show one list and how many contacts are on it."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await lists.get(uow, parse_id(list_id, "list_id"))


@patch("/lists/{list_id:str}", guards=[needs("support", "contacts:write")])
async def renamed(
    list_id: FromPath[str],
    data: JSONBody[ListIn],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
) -> ListView:
    """Give a list another name."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await lists.rename(uow, principal.actor, parse_id(list_id, "list_id"), data.name)


@delete("/lists/{list_id:str}", status_code=204, guards=[needs("operator", "contacts:write")])
async def deleted(
    list_id: FromPath[str], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> None:
    """Delete a list that no campaign names; its contacts stay."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        await lists.delete(uow, principal.actor, parse_id(list_id, "list_id"))


@get("/lists/{list_id:str}/members", guards=[needs("viewer", "contacts:read")])
async def members(
    list_id: FromPath[str],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
    limit: FromQuery[Limit] = 50,
    cursor: FromQuery[Cursor] = "",
) -> Page[MemberView]:
    """List the members of a list by contact id."""
    after = read_cursor(cursor, tuple[UUID])
    identifier = parse_id(list_id, "list_id")
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        items = await lists.members(uow, identifier, limit=limit, after=after[0] if after else None)
    return page(items, limit, cursor_of(items[-1].contact_id) if items else "")


@post("/lists/{list_id:str}/members", status_code=200, guards=[needs("support", "contacts:write")])
async def members_added(
    list_id: FromPath[str],
    data: JSONBody[MembersIn],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
) -> lists.MembersChanged:
    """Put up to 1,000 contacts on a list."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await lists.add_members(uow, principal.actor, parse_id(list_id, "list_id"), data.contact_ids)


@post("/lists/{list_id:str}/members/remove", status_code=200, guards=[needs("support", "contacts:write")])
async def members_removed(
    list_id: FromPath[str],
    data: JSONBody[MembersIn],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
) -> lists.MembersChanged:
    """Take up to 1,000 contacts off a list."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await lists.remove_members(uow, principal.actor, parse_id(list_id, "list_id"), data.contact_ids)


ROUTES = [create, listed, shown, renamed, deleted, members, members_added, members_removed]
