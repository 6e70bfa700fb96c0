"""Users of a tenant. Nobody sets another's password: administrators hand over a token."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec
from litestar import delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody

from outrider.base.errors import Refused
from outrider.base.ids import parse_id
from outrider.data.db import Role, UnitOfWork
from outrider.data.runtime import Runtime
from outrider.domain.limits.reasons import NOT_GIVEN, clean_reason
from outrider.domain.tenants import resets, sessions, tenants, users
from outrider.domain.tenants.roles import includes
from outrider.interfaces.api.paging import Cursor, Limit, Page, cursor_of, page, read_cursor
from outrider.interfaces.auth import Principal, needs

Text = Annotated[str, msgspec.Meta(max_length=320)]


class UserIn(msgspec.Struct, forbid_unknown_fields=True):
    """A new user. tenant_id: another tenant than one's own, for administrators of the installation."""

    email: Text
    role: Text
    name: Text = ""
    is_installation_admin: bool = False
    tenant_id: UUID | None = None


class UserChange(msgspec.Struct, forbid_unknown_fields=True):
    """What to change; what is not named stays."""

    name: Text | None = None
    role: Text | None = None
    is_installation_admin: bool | None = None
    is_active: bool | None = None
    reason: str = NOT_GIVEN


class ResetOut(msgspec.Struct):
    """A token with which a user sets a password; shown once."""

    token: str
    expires_at: datetime


class UserOut(msgspec.Struct):
    """A new user and the token with which to set the first password."""

    user: users.User
    password_token: str
    expires_at: datetime


@get("/users", guards=[needs("admin", "users:read")])
async def listed(
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
    limit: FromQuery[Limit] = 50,
    cursor: FromQuery[Cursor] = "",
) -> Page[users.User]:
    """List users by address."""
    after = read_cursor(cursor, tuple[str])
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        found = await users.listed(uow, after_email=after[0] if after else "", limit=limit)
    return page(found, limit, cursor_of(found[-1].email) if found else "")


@get("/users/{user_id:str}", guards=[needs("admin", "users:read")])
async def get_one(
    user_id: FromPath[str], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> users.User:
    """Get a user."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await users.get(uow, parse_id(user_id, "user_id"))


@post("/users", status_code=201, guards=[needs("admin", "users:write")])
async def create(
    data: JSONBody[UserIn], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> UserOut:
    """Make a user without a password, and the token with which to set one."""
    place = data.tenant_id or principal.tenant_id
    if place != principal.tenant_id and not principal.is_installation_admin:
        raise Refused("not_found", "no such tenant", field="/tenant_id", status=404)
    _refuse_beyond(principal, data.role, "/role", is_foreign=place != principal.tenant_id)
    if data.is_installation_admin:
        _refuse_unless_installation_admin(principal)
    async with runtime.db.uow(Role.APP, place) as uow:
        await tenants.get(uow, place)
        user = await users.create(
            uow,
            principal.actor,
            email=data.email,
            role=data.role,
            name=data.name,
            is_installation_admin=data.is_installation_admin,
        )
        token, ends_at = await resets.issue(uow, principal.actor, runtime.keyring, user.id)
    return UserOut(user, token, ends_at)


@patch("/users/{user_id:str}", guards=[needs("admin", "users:write")])
async def change(
    user_id: FromPath[str],
    data: JSONBody[UserChange],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
) -> users.User:
    """Change a user; a deactivated one is signed out at once."""
    if data.role is not None:
        _refuse_beyond(principal, data.role, "/role")
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        before = await _within_reach(uow, principal, user_id)
        if data.is_installation_admin is not None and data.is_installation_admin != before.is_installation_admin:
            _refuse_unless_installation_admin(principal)
        return await users.change(
            uow,
            principal.actor,
            before.id,
            name=data.name,
            role=data.role,
            is_installation_admin=data.is_installation_admin,
            is_active=data.is_active,
            reason=clean_reason(data.reason),
        )


@post("/users/{user_id:str}/password-reset", status_code=201, guards=[needs("admin", "users:write")])
async def reset(
    user_id: FromPath[str], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> ResetOut:
    """Make a token with which the user sets a new password within an hour."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        user = await _within_reach(uow, principal, user_id)
        token, ends_at = await resets.issue(uow, principal.actor, runtime.keyring, user.id)
    return ResetOut(token, ends_at)


@post("/users/{user_id:str}/unlock", status_code=200, guards=[needs("admin", "users:write")])
async def unlock(
    user_id: FromPath[str], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> users.User:
    """Let a user sign in again who gave too many wrong passwords.

    The lock of an address that users of other tenants have too is for an administrator of the installation to end.
    """
    async with runtime.db.uow(Role.ENGINE, principal.tenant_id) as uow:
        user = await _within_reach(uow, principal, user_id)
        return await users.unlock(uow, principal.actor, user.id, is_for_all=principal.is_installation_admin)


@delete("/users/{user_id:str}/sessions", status_code=204, guards=[needs("admin", "users:write")])
async def end_sessions(
    user_id: FromPath[str], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> None:
    """Sign a user out everywhere."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        user = await _within_reach(uow, principal, user_id)
        await sessions.end_all(uow, principal.actor, user.id)


async def _within_reach(uow: UnitOfWork, principal: Principal, user_id: str) -> users.User:
    """A user whom this caller may change: nobody changes somebody of a higher role, or an administrator of all."""
    user = await users.get(uow, parse_id(user_id, "user_id"))
    _refuse_beyond(principal, user.role, None)
    if user.is_installation_admin:
        _refuse_unless_installation_admin(principal)
    return user


def _refuse_beyond(principal: Principal, role: str, field: str | None, *, is_foreign: bool = False) -> None:
    if not is_foreign and includes("owner", role) and not includes(principal.role, role):
        raise Refused("forbidden", f"your role {principal.role} is less than {role}", field=field, status=403)


def _refuse_unless_installation_admin(principal: Principal) -> None:
    if not principal.is_installation_admin:
        raise Refused("forbidden", "only administrators of the installation may do this", status=403)


ROUTES = [listed, get_one, create, change, reset, unlock, end_sessions]
