"""Tenants: one's own, and for administrators of the installation all of them."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody

from outrider.base.errors import Refused
from outrider.base.ids import parse_id
from outrider.data.db import Role
from outrider.data.runtime import Runtime
from outrider.domain.limits.reasons import NOT_GIVEN, clean_reason
from outrider.domain.messages import holds
from outrider.domain.tenants import tenants
from outrider.interfaces.api.paging import Cursor, Limit, Page, cursor_of, page, read_cursor
from outrider.interfaces.auth import Principal, needs, needs_installation_admin

Name = Annotated[str, msgspec.Meta(max_length=80)]
Zone = Annotated[str, msgspec.Meta(max_length=64)]


class TenantIn(msgspec.Struct, forbid_unknown_fields=True):
    """A new tenant."""

    name: Name
    timezone: Zone = "UTC"


class TenantChange(msgspec.Struct, forbid_unknown_fields=True):
    """What to change; what is not named stays, a setting of null goes back to its preset."""

    name: Name | None = None
    timezone: Zone | None = None
    settings: dict[str, Any] = {}
    reason: str = NOT_GIVEN


@get("/tenants", guards=[needs("viewer", "tenant:read")])
async def listed(
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
    limit: FromQuery[Limit] = 50,
    cursor: FromQuery[Cursor] = "",
) -> Page[tenants.Tenant]:
    """List tenants by name: one's own, or all for administrators of the installation."""
    after = read_cursor(cursor, tuple[str])
    role = Role.ENGINE if principal.is_installation_admin else Role.APP
    async with runtime.db.uow(role, principal.tenant_id) as uow:
        found = await tenants.listed(uow, after_name=after[0] if after else "", limit=limit)
    return page(found, limit, cursor_of(found[-1].name) if found else "")


@get("/tenants/{tenant_id:str}", guards=[needs("viewer", "tenant:read")])
async def get_one(
    tenant_id: FromPath[str], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> tenants.Tenant:
    """Get a tenant with its settings."""
    place = reachable(principal, tenant_id)
    async with runtime.db.uow(Role.APP, place) as uow:
        return await tenants.get(uow, place, fields=tenants.known_fields(runtime.gates))


@post("/tenants", status_code=201, guards=[needs("admin", "tenant:write"), needs_installation_admin])
async def create(
    data: JSONBody[TenantIn], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> tenants.Tenant:
    """Make a tenant; its first user is made by naming it in `POST /users`."""
    async with runtime.db.uow(Role.ENGINE) as uow:
        return await tenants.create(uow, principal.actor, data.name, data.timezone)


@patch("/tenants/{tenant_id:str}", guards=[needs("admin", "tenant:write")])
async def change(
    tenant_id: FromPath[str],
    data: JSONBody[TenantChange],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
) -> tenants.Tenant:
    """Rename a tenant, set its time zone or settings."""
    place = reachable(principal, tenant_id)
    async with runtime.db.uow(Role.ENGINE, place) as uow:
        after = await tenants.change(
            uow,
            principal.actor,
            place,
            name=data.name,
            timezone=data.timezone,
            settings=data.settings,
            fields=tenants.known_fields(runtime.gates),
            reason=clean_reason(data.reason),
        )
        await holds.tenant_changed(uow, runtime.gates, data.settings, is_zone=data.timezone is not None)
        return after


def reachable(principal: Principal, tenant_id: str) -> UUID:
    """A tenant's id from a path, if the caller may reach it.

    Raises:  Refused(not_found, 404): another's tenant is told apart from none by nobody.
    """
    place = parse_id(tenant_id, "tenant_id")
    if place != principal.tenant_id and not principal.is_installation_admin:
        raise Refused("not_found", "no such tenant", status=404)
    return place


ROUTES = [listed, get_one, create, change]
