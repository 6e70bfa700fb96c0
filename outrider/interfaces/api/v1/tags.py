"""Tags on contacts, and what the tenant's attributes hold."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import msgspec
from litestar import delete, get, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody

from outrider.data.db import Role
from outrider.data.runtime import Runtime
from outrider.domain.contacts import attributes, tags
from outrider.domain.contacts.attributes import Definition, NewDefinition, ValueCount
from outrider.domain.contacts.tags import Tagged, TagView
from outrider.interfaces.api.paging import Cursor, Limit, Page, cursor_of, page, read_cursor
from outrider.interfaces.auth import Principal, needs


class TaggedIn(msgspec.Struct, forbid_unknown_fields=True):
    """Contacts by id, and words."""

    contact_ids: Annotated[list[UUID], msgspec.Meta(min_length=1, max_length=tags.MOST_AT_ONCE)]
    tags: Annotated[list[str], msgspec.Meta(min_length=1, max_length=tags.MOST_TAGS)]


class TagIn(msgspec.Struct, forbid_unknown_fields=True):
    """One tag."""

    tag: Annotated[str, msgspec.Meta(max_length=200)]


class TagDeleted(msgspec.Struct):
    """How many contacts had it."""

    contact_count: int


class Definitions(msgspec.Struct):
    """What every defined attribute holds."""

    items: list[Definition]


class Values(msgspec.Struct):
    """Different values of an attribute, the most frequent first, 100 at most."""

    items: list[ValueCount]


@get("/tags", guards=[needs("viewer", "contacts:read")])
async def listed(
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
    limit: FromQuery[Limit] = 50,
    cursor: FromQuery[Cursor] = "",
) -> Page[TagView]:
    """List tags by name with the number of contacts that have them."""
    after = read_cursor(cursor, tuple[str])
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        items = await tags.listed(uow, limit=limit, after=after[0] if after else "")
    return page(items, limit, cursor_of(items[-1].tag) if items else "")


@post("/tags/add", status_code=200, guards=[needs("support", "contacts:write")])
async def added(
    data: JSONBody[TaggedIn], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> Tagged:
    """Put tags on up to 1,000 contacts."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await tags.add(uow, principal.actor, data.contact_ids, data.tags)


@post("/tags/remove", status_code=200, guards=[needs("support", "contacts:write")])
async def removed(
    data: JSONBody[TaggedIn], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> Tagged:
    """Take tags from up to 1,000 contacts."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await tags.remove(uow, principal.actor, data.contact_ids, data.tags)


@post("/tags/delete", status_code=200, guards=[needs("operator", "contacts:write")])
async def deleted(
    data: JSONBody[TagIn], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> TagDeleted:
    """Take a tag from everybody who has it."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return TagDeleted(await tags.delete(uow, principal.actor, data.tag))


@get("/attributes", guards=[needs("viewer", "contacts:read")])
async def definitions(principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]) -> Definitions:
    """List what the tenant's attributes hold; attributes that are not listed hold any JSON."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return Definitions(list((await attributes.listed(uow)).values()))


@put("/attributes/{key:str}", guards=[needs("operator", "contacts:write")])
async def defined(
    key: FromPath[str],
    data: JSONBody[NewDefinition],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
) -> Definition:
    """Say what an attribute holds from now on; values that contacts have already stay."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await attributes.define(uow, principal.actor, key, data)


@delete("/attributes/{key:str}", status_code=204, guards=[needs("operator", "contacts:write")])
async def forgotten(
    key: FromPath[str], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> None:
    """Take a definition away; the values stay and may be anything from now on."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        await attributes.forget(uow, principal.actor, key)


@get("/attributes/{key:str}/values", guards=[needs("viewer", "contacts:read")])
async def used_values(
    key: FromPath[str], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> Values:
    """List the most frequent values of an attribute with their JSON types: what does not fit shows here."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return Values(await attributes.used_values(uow, key))


ROUTES = [listed, added, removed, deleted, definitions, defined, forgotten, used_values]
