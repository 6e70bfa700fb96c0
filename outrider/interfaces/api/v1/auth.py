"""Signing in and out, one's own sessions and password."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Request, Response, delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from outrider.base.errors import Broken, Refused
from outrider.data.db import Role
from outrider.data.runtime import Runtime
from outrider.domain.tenants import resets, sessions, tenants
from outrider.domain.tenants.signing_in import change_password, sign_in
from outrider.interfaces.api.browsers import refuse_cross_site, session_cookie, session_token
from outrider.interfaces.api.exchange import Exchange, exchange_of
from outrider.interfaces.api.middleware.buckets import Buckets, source_of
from outrider.interfaces.api.middleware.entry import Authenticator
from outrider.interfaces.api.paging import Page
from outrider.interfaces.api.tokens import LASTS_S, Claim
from outrider.interfaces.auth import PUBLIC, Principal, needs

Text = Annotated[str, msgspec.Meta(max_length=4096)]
_MOST_BODY_BYTES = 1_100_000
"""Of who is not signed in: parsed JSON takes 30 times the memory of its text, and 30 MB are allowed elsewhere."""

_CLEAR = {"Clear-Site-Data": '"cache", "cookies", "storage"'}


class LoginIn(msgspec.Struct, forbid_unknown_fields=True):
    """Address and password; the tenant's name or id for people who have the same address in several."""

    email: Text
    password: Text
    tenant: Annotated[str, msgspec.Meta(max_length=80)] = ""


class LoginOut(msgspec.Struct):
    """A session has begun: its cookie is set, `token` is for programs (`Authorization: Bearer …`)."""

    token: str
    token_type: str
    expires_in: int
    session_expires_at: datetime
    tenant_id: UUID
    user_id: UUID
    email: str
    role: str
    is_installation_admin: bool


class MeOut(msgspec.Struct):
    """Who is calling, and with what rights."""

    tenant_id: UUID
    tenant_name: str
    timezone: str
    environment: str
    user_id: UUID | None
    key_id: UUID | None
    name: str
    role: str
    scopes: list[str]
    is_installation_admin: bool
    via: str


class PasswordIn(msgspec.Struct, forbid_unknown_fields=True):
    """The password now and the one wanted."""

    current_password: Text
    new_password: Text


class ResetIn(msgspec.Struct, forbid_unknown_fields=True):
    """A token an administrator handed over, and the password wanted."""

    token: Text
    new_password: Text


@post("/auth/login", status_code=200, opt={"auth": PUBLIC}, request_max_body_size=_MOST_BODY_BYTES)
async def login(
    data: JSONBody[LoginIn],
    request: Request[Any, Any, Any],
    runtime: NamedDependency[Runtime],
    authenticator: NamedDependency[Authenticator],
    login_rate: NamedDependency[Buckets],
) -> Response[LoginOut]:
    """Sign in: sets the session's cookie and gives a token that lasts 15 minutes, or as long as the session."""
    exchange = exchange_of(request)
    refuse_cross_site(exchange, request.headers.get("sec-fetch-site"), request.headers.get("origin"), runtime.settings)
    _slow_down(login_rate, exchange)
    brought = session_token(request.headers.get("cookie", ""), runtime.settings)
    done = await sign_in(
        runtime.db,
        runtime.settings,
        email=data.email,
        password=data.password,
        tenant=data.tenant,
        ip=exchange.client_ip,
        user_agent=request.headers.get("user-agent"),
        replaces=sessions.hash_token(brought) if brought else None,
    )
    claim = Claim(done.tenant_id, done.user_id, done.session.token_hash)
    lasts_s = min(LASTS_S, runtime.settings.session_absolute_s)
    body = LoginOut(
        token=authenticator.tokens.issue(claim, lasts_s=lasts_s),
        token_type="Bearer",  # noqa: S106 - the name of the scheme
        expires_in=lasts_s,
        session_expires_at=done.session.expires_at,
        tenant_id=done.tenant_id,
        user_id=done.user_id,
        email=done.email,
        role=done.role,
        is_installation_admin=done.is_installation_admin,
    )
    cookie = session_cookie(runtime.settings, done.session.token, lasts_s=runtime.settings.session_absolute_s)
    return Response(body, cookies=[cookie])


@post("/auth/token", status_code=200, guards=[needs("viewer", people_only=True)])
async def token(
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
    authenticator: NamedDependency[Authenticator],
) -> dict[str, Any]:
    """Give a fresh token for the same session, before the last one ends."""
    user_id, session_hash = _session(principal)
    lasts_s = min(LASTS_S, runtime.settings.session_absolute_s)
    fresh = authenticator.tokens.issue(Claim(principal.tenant_id, user_id, session_hash), lasts_s=lasts_s)
    return {"token": fresh, "token_type": "Bearer", "expires_in": lasts_s}


@post("/auth/logout", status_code=204, guards=[needs("viewer", people_only=True)])
async def logout(principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]) -> Response[None]:
    """End this session, and with it its tokens."""
    user_id, session_hash = _session(principal)
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        await sessions.end(uow, principal.actor, user_id, session_hash.hex())
    return Response(None, status_code=204, headers=_CLEAR, cookies=[session_cookie(runtime.settings, "", lasts_s=0)])


@get("/auth/me", guards=[needs("viewer")])
async def me(principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]) -> MeOut:
    """Say who is calling and with what rights."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        tenant = await tenants.get(uow, principal.tenant_id)
    return MeOut(
        tenant_id=tenant.id,
        tenant_name=tenant.name,
        timezone=tenant.timezone,
        environment=runtime.settings.environment,
        user_id=principal.user_id,
        key_id=principal.key_id,
        name=principal.actor.name,
        role=principal.role,
        scopes=sorted(principal.scopes),
        is_installation_admin=principal.is_installation_admin,
        via=principal.via,
    )


@get("/auth/sessions", guards=[needs("viewer", people_only=True)])
async def own_sessions(
    principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> Page[sessions.Session]:
    """List one's own live sessions, the last used first."""
    user_id, session_hash = _session(principal)
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        found = await sessions.listed(uow, user_id, idle_s=runtime.settings.session_idle_s, current=session_hash)
    return Page(found)


@delete("/auth/sessions/{session_id:str}", status_code=204, guards=[needs("viewer", people_only=True)])
async def end_session(
    session_id: FromPath[str], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> None:
    """End one of one's own sessions."""
    user_id, _ = _session(principal)
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        await sessions.end(uow, principal.actor, user_id, session_id)


@delete("/auth/sessions", status_code=204, guards=[needs("viewer", people_only=True)])
async def end_other_sessions(principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]) -> None:
    """End every one of one's own sessions but this."""
    user_id, session_hash = _session(principal)
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        await sessions.end_all(uow, principal.actor, user_id, keep=session_hash)


@post("/auth/password", status_code=204, guards=[needs("viewer", people_only=True)])
async def password(
    data: JSONBody[PasswordIn], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> None:
    """Change one's own password; every other session ends."""
    user_id, session_hash = _session(principal)
    await change_password(
        runtime.db,
        runtime.settings,
        tenant_id=principal.tenant_id,
        user_id=user_id,
        actor=principal.actor,
        current=data.current_password,
        new=data.new_password,
        keep=session_hash,
    )


@post("/auth/password-reset", status_code=204, opt={"auth": PUBLIC}, request_max_body_size=_MOST_BODY_BYTES)
async def password_reset(
    data: JSONBody[ResetIn],
    request: Request[Any, Any, Any],
    runtime: NamedDependency[Runtime],
    login_rate: NamedDependency[Buckets],
) -> None:
    """Set a password with a token that an administrator handed over; every session of the user ends."""
    exchange = exchange_of(request)
    refuse_cross_site(exchange, request.headers.get("sec-fetch-site"), request.headers.get("origin"), runtime.settings)
    _slow_down(login_rate, exchange)
    await resets.redeem(runtime.db, runtime.keyring, data.token, data.new_password, ip=exchange.client_ip)


def _slow_down(rate: Buckets, exchange: Exchange) -> None:
    """Refuse a source that signs in too often, whatever the accounts. Raises Refused(rate_limited, 429)."""
    wait_s = rate.take(source_of(exchange.client_ip))
    if wait_s:
        raise Refused(
            "rate_limited", "too many sign-ins from this address", status=429, retry_after_s=math.ceil(wait_s)
        )


def _session(principal: Principal) -> tuple[UUID, bytes]:
    if principal.user_id is None or principal.session_hash is None:
        raise Broken("no_session", "the guard lets people only in")
    return principal.user_id, principal.session_hash


ROUTES = [
    login,
    token,
    logout,
    me,
    own_sessions,
    end_session,
    end_other_sessions,
    password,
    password_reset,
]
