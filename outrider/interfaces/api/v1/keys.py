"""API keys of a tenant."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec
from litestar import delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody

from outrider.base.errors import Refused
from outrider.base.ids import parse_id
from outrider.base.moments import moment
from outrider.data.db import Role
from outrider.data.runtime import Runtime
from outrider.domain.tenants import keys
from outrider.domain.tenants.roles import ROLE_HELP, ROLES, SCOPES, includes
from outrider.interfaces.api.middleware.entry import Authenticator
from outrider.interfaces.api.paging import Cursor, Limit, Page, cursor_of, page, read_cursor
from outrider.interfaces.auth import Principal, needs


class KeyIn(msgspec.Struct, forbid_unknown_fields=True):
    """A new key: what it is for, what it may do, until when."""

    name: Annotated[str, msgspec.Meta(max_length=200)]
    scopes: Annotated[list[Annotated[str, msgspec.Meta(max_length=40)]], msgspec.Meta(max_length=100)]
    role: str = "operator"
    expires_at: Annotated[datetime, msgspec.Meta(tz=True)] | None = None


class KeyOut(msgspec.Struct):
    """A new key with the key itself, shown this once."""

    key: str
    details: keys.Key


class RoleOut(msgspec.Struct):
    """A role and what its holders may do beyond the roles before it."""

    name: str
    help: str


class ScopeOut(msgspec.Struct):
    """A scope and the least role of a key that may have it."""

    name: str
    help: str
    role: str


class RolesOut(msgspec.Struct):
    """Roles in rising order, and scopes."""

    roles: list[RoleOut]
    scopes: list[ScopeOut]


@get("/keys", guards=[needs("admin", "keys:read")])
async def listed(
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
    limit: FromQuery[Limit] = 50,
    cursor: FromQuery[Cursor] = "",
) -> Page[keys.Key]:
    """List keys, newest first, revoked ones included."""
    before = read_cursor(cursor, tuple[UUID])
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        found = await keys.listed(uow, before=before[0] if before else keys.NEWEST, limit=limit)
    return page(found, limit, cursor_of(found[-1].id) if found else "")


@get("/keys/{key_id:str}", guards=[needs("admin", "keys:read")])
async def get_one(
    key_id: FromPath[str], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> keys.Key:
    """Get a key's details, never the key."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await keys.get(uow, parse_id(key_id, "key_id"))


@post("/keys", status_code=201, guards=[needs("admin", "keys:write")])
async def create(
    data: JSONBody[KeyIn], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> KeyOut:
    """Make a key; it may do no more than whoever makes it."""
    if includes("owner", data.role) and not includes(principal.role, data.role):
        raise Refused("forbidden", f"your role {principal.role} is less than {data.role}", field="/role", status=403)
    if principal.via == "key" and not principal.scopes.issuperset(data.scopes):
        raise Refused("forbidden", "a key makes keys with its own scopes only", field="/scopes", status=403)
    expires_at = moment(data.expires_at, "/expires_at")
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        made, key = await keys.create(
            uow, principal.actor, name=data.name, role=data.role, scopes=data.scopes, expires_at=expires_at
        )
    return KeyOut(key, made)


@delete("/keys/{key_id:str}", status_code=200, guards=[needs("admin", "keys:write")])
async def revoke(
    key_id: FromPath[str],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
    authenticator: NamedDependency[Authenticator],
) -> keys.Key:
    """Revoke a key: refused here at once, by other processes within a second."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        key = await keys.revoke(uow, principal.actor, parse_id(key_id, "key_id"))
    authenticator.forget_keys()
    return key


@get("/roles", guards=[needs("viewer", "tenant:read")])
async def roles() -> RolesOut:
    """List roles and scopes, for forms and for people."""
    return RolesOut(
        roles=[RoleOut(role, ROLE_HELP[role]) for role in ROLES],
        scopes=[ScopeOut(scope.name, scope.help, scope.role) for scope in SCOPES.values()],
    )


ROUTES = [listed, get_one, create, revoke, roles]
