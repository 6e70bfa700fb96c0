"""Signing in with address and password, and changing or resetting a password.

Owns the order of the steps, so that status, body and time tell nobody which addresses exist. These verbs open their own
units of work: a password is hashed between two of them, never while a database connection is held.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec
import structlog

from outrider.base.errors import Refused
from outrider.base.settings import Settings
from outrider.contracts.actor import Actor
from outrider.data.db import Database, Role, UnitOfWork
from outrider.domain.audit.append import append
from outrider.domain.tenants import attempts, passwords, sessions, users
from outrider.domain.tenants.rows import SQL

_log = structlog.get_logger(__name__)
_LONGEST_TENANT = 80


class SignedIn(msgspec.Struct, frozen=True):
    """A new session and whose it is."""

    session: sessions.Begun
    tenant_id: UUID
    user_id: UUID
    email: str
    role: str
    is_installation_admin: bool


async def sign_in(
    db: Database,
    settings: Settings,
    *,
    email: str,
    password: str,
    tenant: str = "",
    ip: str | None = None,
    user_agent: str | None = None,
    replaces: bytes | None = None,
) -> SignedIn:
    """Check a password and begin a session. The sign-in is audited; a wrong password is logged and counted.

    Takes:   tenant: its name or id; needed by people who have the same address in several tenants.
             replaces: the hash of the session token the browser came with.
    Raises:  Refused(invalid_credentials, 401) for a wrong password, an unknown or inactive user and an ambiguous
             address alike; Refused(too_many_attempts, 429) for known and unknown addresses alike;
             Refused(invalid_password) before any hashing; Unavailable.
    """
    normal = passwords.normalise(password)
    try:
        address = users.normalise_email(email)
    except Refused:
        address = "\N{SYMBOL FOR NULL}invalid"
    wanted = tenant.strip() if len(tenant) <= _LONGEST_TENANT and tenant.isprintable() else "\N{SYMBOL FOR NULL}"
    async with db.uow(Role.ENGINE) as uow:
        locked_s = await _count(uow, settings, address)
        found = [] if locked_s else await SQL.login_candidates.many(uow.raw, address, wanted)
    if locked_s:
        _log.warning("login_locked", ip=ip, retry_after_s=locked_s)
        raise attempts.refused(locked_s)
    row = found[0] if len(found) == 1 else None
    if not await passwords.matches(row["password_hash"] if row else "", normal) or row is None:
        _log.warning("login_failed", ip=ip)
        raise _wrong()
    return await _begin(db, settings, row, normal, ip=ip, user_agent=user_agent, replaces=replaces)


async def change_password(
    db: Database,
    settings: Settings,
    *,
    tenant_id: UUID,
    user_id: UUID,
    actor: Actor,
    current: str,
    new: str,
    keep: bytes,
) -> None:
    """Change one's own password; every other session of the user ends.

    Takes:   keep: the token hash of the session that asks.
    Raises:  Refused(wrong_password, 403) when `current` is not the password, counted like a wrong one at the sign-in;
             Refused(too_many_attempts); Refused for a new one that is not allowed.
    """
    given = passwords.normalise(current, field="/current_password")
    async with db.uow(Role.ENGINE, tenant_id) as uow:
        row = await SQL.user_lock.one(uow.raw, tenant_id, user_id)
        locked_s = await _count(uow, settings, row["email"]) if row else 0
    if locked_s:
        raise attempts.refused(locked_s)
    if row is None or not await passwords.matches(row["password_hash"], given):
        raise Refused("wrong_password", "is not your password", field="/current_password", status=403)
    normal = passwords.check_new(new, about=(row["email"], row["name"]), field="/new_password")
    password_hash = await passwords.hashed(normal)
    async with db.uow(Role.ENGINE, tenant_id) as uow:
        await attempts.forgive(uow, row["email"], right_count=1)
        await users.set_password(uow, actor, user_id, password_hash, keep=keep)


async def _count(uow: UnitOfWork, settings: Settings, address: str) -> int:
    return await attempts.begin(uow, address, most=settings.login_attempts, lock_s=settings.login_lock_s)


async def _begin(db: Database, settings: Settings, row: Any, password: str, **session: Any) -> SignedIn:
    """Begin the session of somebody whose password was right, unless it was changed in this instant."""
    is_outdated = passwords.is_outdated(row["password_hash"])
    rehashed = await passwords.hashed(password) if is_outdated else ""
    async with db.uow(Role.ENGINE, row["tenant_id"]) as uow:
        now = await SQL.user_lock.one(uow.raw, row["tenant_id"], row["id"])
        if now is None or not now["is_active"] or now["password_hash"] != row["password_hash"]:
            raise _wrong()
        await attempts.forgive(uow, row["email"], right_count=1)
        if rehashed:
            await SQL.user_rehash.run(uow.raw, row["tenant_id"], row["id"], row["password_hash"], rehashed)
        await SQL.user_signed_in.run(uow.raw, row["tenant_id"], row["id"])
        begun = await sessions.begin(uow, row["id"], lasts_s=settings.session_absolute_s, **session)
        actor = Actor("user", row["email"], session["ip"])
        await append(uow, actor, action="user.login", target=("user", str(row["id"])))
    return SignedIn(begun, row["tenant_id"], row["id"], row["email"], row["role"], row["is_installation_admin"])


def _wrong() -> Refused:
    return Refused("invalid_credentials", "address, password or tenant is wrong", status=401)
