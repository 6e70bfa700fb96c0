"""Senders: who messages come from. Signing keys go in and never come out."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import msgspec
from litestar import get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from outrider.base.ids import parse_id
from outrider.data.db import Role
from outrider.data.names import NameSystem
from outrider.data.runtime import Runtime
from outrider.domain.senders import dns_check, records, senders
from outrider.domain.senders.dns_check import Check
from outrider.domain.senders.records import Record
from outrider.domain.senders.senders import SenderView
from outrider.interfaces.api.paging import Cursor, Limit, Page, cursor_of, page, read_cursor
from outrider.interfaces.api.v1.connections import vault_of
from outrider.interfaces.auth import Principal, needs

Archived = Annotated[bool, QueryParameter(description="Archived ones too.")]


@post("/senders", status_code=201, guards=[needs("admin", "senders:write")])
async def create(
    data: JSONBody[senders.NewSender], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> SenderView:
    """Make a sender; `warnings` are what is worth mending."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await senders.create(uow, runtime.channels, vault_of(runtime), principal.actor, data)


@get("/senders", guards=[needs("viewer", "senders:read")])
async def listed(
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
    with_archived: FromQuery[Archived] = False,  # noqa: FBT002 - a query parameter has a name
    limit: FromQuery[Limit] = 50,
    cursor: FromQuery[Cursor] = "",
) -> Page[SenderView]:
    """List senders in the order they were made."""
    after = read_cursor(cursor, tuple[UUID])
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        items = await senders.listed(uow, limit=limit, after=after[0] if after else None, with_archived=with_archived)
    return page(items, limit, cursor_of(items[-1].id) if items else "")


@get("/senders/{sender_id:str}", guards=[needs("viewer", "senders:read")])
async def shown(
    sender_id: FromPath[str], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> SenderView:
    """Show one sender, never its signing keys."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await senders.get(uow, parse_id(sender_id, "sender_id"))


@patch("/senders/{sender_id:str}", guards=[needs("admin", "senders:write")])
async def changed(
    sender_id: FromPath[str],
    data: JSONBody[senders.SenderChange],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
) -> SenderView:
    """Change a sender; what is sent from now on comes from what it says then."""
    identifier = parse_id(sender_id, "sender_id")
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await senders.update(uow, runtime.channels, vault_of(runtime), principal.actor, identifier, data)


@post("/senders/{sender_id:str}/archive", status_code=200, guards=[needs("admin", "senders:write")])
async def archived(
    sender_id: FromPath[str], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> SenderView:
    """Take a sender out of use for what is new; what was accepted before is still sent."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await senders.archive(uow, principal.actor, parse_id(sender_id, "sender_id"), is_archived=True)


@post("/senders/{sender_id:str}/restore", status_code=200, guards=[needs("admin", "senders:write")])
async def restored(
    sender_id: FromPath[str], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> SenderView:
    """Take an archived sender back into use."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await senders.archive(uow, principal.actor, parse_id(sender_id, "sender_id"), is_archived=False)


class RecordsOut(msgspec.Struct):
    """What to set in DNS."""

    records: list[Record]


class DnsOut(msgspec.Struct):
    """What to set in DNS, and what is there. `is_ok`: nothing fails; what nobody could say is `unknown`."""

    is_ok: bool
    checks: list[Check]
    records: list[Record]


@get("/senders/{sender_id:str}/dns", guards=[needs("viewer", "senders:read")])
async def dns(
    sender_id: FromPath[str], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> RecordsOut:
    """Show the DNS records a sender's domains need; asks no name server."""
    return RecordsOut(records.wanted(await _domains(sender_id, principal, runtime)))


@post("/senders/{sender_id:str}/dns/check", status_code=200, guards=[needs("operator", "senders:read")])
async def dns_checked(
    sender_id: FromPath[str], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> DnsOut:
    """Ask DNS for DKIM, SPF, DMARC, bounces and links of a sender, as receivers do; within 20 s."""
    domains = await _domains(sender_id, principal, runtime)
    found = await dns_check.checked(domains, NameSystem(runtime.settings.dns_servers))
    return DnsOut(dns_check.is_good(found), found, records.wanted(domains))


async def _domains(sender_id: str, principal: Principal, runtime: Runtime) -> records.Domains:
    identifier = parse_id(sender_id, "sender_id")
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await records.domains_of(uow, vault_of(runtime), runtime.settings, identifier)


ROUTES = [create, listed, shown, changed, archived, restored, dns, dns_checked]
