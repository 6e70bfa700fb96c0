"""Contacts, their addresses and their consent. Addresses travel in bodies, never in URLs."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import msgspec
from litestar import get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from outrider.base.ids import parse_id
from outrider.data.db import Role
from outrider.data.runtime import Runtime
from outrider.domain.contacts import consent, read, write
from outrider.domain.contacts.views import AddressView, ConsentEventView, ContactView
from outrider.domain.messages import bounces
from outrider.interfaces.api.paging import Cursor, Limit, Page, cursor_of, page, read_cursor
from outrider.interfaces.auth import Principal, needs

ExternalId = Annotated[str, QueryParameter(max_length=200, description="Only the contact with this external id.")]


class LookupIn(msgspec.Struct, forbid_unknown_fields=True):
    """An address, typed in any form its channel understands."""

    address: str
    channel: str = "email"


class LookupOut(msgspec.Struct):
    """Whoever has the address; null when nobody has."""

    contact: ContactView | None


class ConsentHistory(msgspec.Struct):
    """The proof of consent, oldest first."""

    items: list[ConsentEventView]


class SoftBounces(msgspec.Struct):
    """What came back for now, newest first."""

    items: list[bounces.SoftBounceView]


@post("/contacts", status_code=201, guards=[needs("support", "contacts:write")])
async def create(
    data: JSONBody[write.NewContact], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> ContactView:
    """Make a contact with its addresses."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await write.create(uow, runtime.channels, principal.actor, data)


@get("/contacts", guards=[needs("viewer", "contacts:read")])
async def listed(
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
    external_id: FromQuery[ExternalId] = "",
    limit: FromQuery[Limit] = 50,
    cursor: FromQuery[Cursor] = "",
) -> Page[ContactView]:
    """List contacts in the order they were made."""
    after = read_cursor(cursor, tuple[UUID])
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        if external_id:
            found = await read.by_external_id(uow, external_id)
            return Page([found] if found else [])
        items = await read.listed(uow, limit=limit, after=after[0] if after else None)
    return page(items, limit, cursor_of(items[-1].id) if items else "")


@post("/contacts/lookup", status_code=200, guards=[needs("support", "contacts:write")])
async def lookup(
    data: JSONBody[LookupIn], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> LookupOut:
    """Find whoever has an address, typed in any form."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return LookupOut(await read.by_address(uow, runtime.channels, data.channel, data.address))


@get("/contacts/{contact_id:str}", guards=[needs("viewer", "contacts:read")])
async def shown(
    contact_id: FromPath[str], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> ContactView:
    """Show one contact with its addresses and the consent that holds."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await read.get(uow, parse_id(contact_id, "contact_id"))


@patch("/contacts/{contact_id:str}", guards=[needs("support", "contacts:write")])
async def changed(
    contact_id: FromPath[str],
    data: JSONBody[write.ContactChange],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
) -> ContactView:
    """Change fields of a contact; attributes are merged, null removes one."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await write.update(uow, principal.actor, parse_id(contact_id, "contact_id"), data)


@post("/contacts/{contact_id:str}/addresses", status_code=200, guards=[needs("support", "contacts:write")])
async def address_added(
    contact_id: FromPath[str],
    data: JSONBody[AddressView],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
) -> ContactView:
    """Give a contact one more address."""
    identifier = parse_id(contact_id, "contact_id")
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await write.add_address(uow, runtime.channels, principal.actor, identifier, data)


@post("/contacts/{contact_id:str}/addresses/remove", status_code=200, guards=[needs("support", "contacts:write")])
async def address_removed(
    contact_id: FromPath[str],
    data: JSONBody[AddressView],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
) -> ContactView:
    """Take an address from a contact; what stands against it on the do-not-contact list stays."""
    identifier = parse_id(contact_id, "contact_id")
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await write.remove_address(uow, runtime.channels, principal.actor, identifier, data)


@post("/contacts/{contact_id:str}/consents", status_code=200, guards=[needs("support", "contacts:write")])
async def consent_set(
    contact_id: FromPath[str],
    data: JSONBody[consent.ConsentStatement],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
) -> ContactView:
    """Record that a contact grants or withdraws consent; after a withdrawal a grant needs its proof."""
    identifier = parse_id(contact_id, "contact_id")
    said = msgspec.structs.replace(data, ip=consent.check_ip(data.ip))
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        await consent.set_consent(uow, runtime.channels, principal.actor, identifier, said)
        return await read.get(uow, identifier)


@get("/contacts/{contact_id:str}/consents", guards=[needs("viewer", "contacts:read")])
async def consent_history(
    contact_id: FromPath[str], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> ConsentHistory:
    """Show the proof of consent: everything that was ever said, oldest first."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return ConsentHistory(await read.consent_history(uow, parse_id(contact_id, "contact_id")))


@get("/contacts/{contact_id:str}/soft-bounces", guards=[needs("viewer", "contacts:read")])
async def soft_bounces(
    contact_id: FromPath[str], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> SoftBounces:
    """Show the newest 100 messages that came back for now; too many put an address on the do-not-contact list."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return SoftBounces(await bounces.of_contact(uow, parse_id(contact_id, "contact_id")))


ROUTES = [
    create, listed, lookup, shown, changed, address_added, address_removed, consent_set, consent_history, soft_bounces,
]  # fmt: skip
