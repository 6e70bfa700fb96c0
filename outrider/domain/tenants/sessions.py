"""Sessions: server-side, found by the hash of a random token, ended by idleness, age, sign-out and administrators."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime
from uuid import UUID

import asyncpg
import msgspec

from outrider.base.errors import Broken, Refused
from outrider.contracts.actor import Actor
from outrider.data.db import UnitOfWork
from outrider.domain.audit.append import append
from outrider.domain.tenants.rows import SQL

_TOKEN_BYTES = 32
_TOKEN_CHARACTERS = 43
_LONGEST_AGENT = 200
_TOUCH_SHARE = 10
_TOUCH_MOST_S = 60.0


class Session(msgspec.Struct, frozen=True):
    """One sign-in as its owner sees it; `id` is the hash of its token, hexadecimal, and opens nothing."""

    id: str
    created_at: datetime
    seen_at: datetime
    expires_at: datetime
    ip: str | None
    user_agent: str | None
    is_current: bool = False


class Found(msgspec.Struct, frozen=True):
    """Who is behind a session."""

    tenant_id: UUID
    user_id: UUID
    token_hash: bytes
    email: str
    name: str
    role: str
    is_installation_admin: bool
    created_at: datetime
    expires_at: datetime


class Begun(msgspec.Struct, frozen=True):
    """A new session and the token that is shown once, to the browser."""

    token: str
    token_hash: bytes
    created_at: datetime
    expires_at: datetime


def hash_token(token: str) -> bytes | None:
    """The hash a token is found by; None for what cannot be a token of ours."""
    if len(token) != _TOKEN_CHARACTERS or not token.isascii():
        return None
    return hashlib.sha256(token.encode()).digest()


async def begin(
    uow: UnitOfWork,
    user_id: UUID,
    *,
    lasts_s: int,
    ip: str | None,
    user_agent: str | None,
    replaces: bytes | None = None,
) -> Begun:
    """Begin a session with a fresh token (engine role, tenant's unit of work).

    Takes:   replaces: the hash of the token the browser came with; that session ends (no fixation).
    """
    token = secrets.token_urlsafe(_TOKEN_BYTES)
    token_hash = hashlib.sha256(token.encode()).digest()
    if replaces:
        await SQL.session_end_own.run(uow.raw, replaces)
    agent = "".join(part for part in (user_agent or "")[:_LONGEST_AGENT] if part.isprintable()) or None
    row = await SQL.session_add.one(uow.raw, uow.tenant_id, token_hash, user_id, float(lasts_s), ip, agent)
    if row is None:
        raise Broken("session_lost", "the statement gives the row it wrote")
    return Begun(token, token_hash, row["created_at"], row["expires_at"])


async def find(uow: UnitOfWork, token_hash: bytes, *, idle_s: int) -> Found | None:
    """Who is behind a session that is alive (engine role); notes its use now and then."""
    touch_s = min(_TOUCH_MOST_S, idle_s / _TOUCH_SHARE)
    row = await SQL.session_find.one(uow.raw, token_hash, float(idle_s), touch_s)
    if row is None:
        return None
    if row["is_stale"]:
        await SQL.session_touch.run(uow.raw, row["tenant_id"], token_hash)
    return Found(**{name: row[name] for name in Found.__struct_fields__})


async def end(uow: UnitOfWork, actor: Actor, user_id: UUID, session_id: str) -> None:
    """End one session of a user. Audited; ending one that has ended is no error.

    Raises:  Refused(not_found) for what cannot be a session's id.
    """
    token_hash = read_id(session_id)
    mine = {row["token_hash"] for row in await _rows(uow, user_id, _FOREVER_S)}
    if token_hash in mine:
        await SQL.session_end.run(uow.raw, uow.tenant_id, token_hash)
    await append(uow, actor, action="session.end", target=("user", str(user_id)), details={"session": session_id[:16]})


async def end_all(uow: UnitOfWork, actor: Actor, user_id: UUID, *, keep: bytes = b"") -> int:
    """End every session of a user but the one whose token hash is `keep`. Audited."""
    ended = await SQL.sessions_end_others.run(uow.raw, uow.tenant_id, user_id, keep)
    await append(uow, actor, action="session.end_all", target=("user", str(user_id)), details={"count": ended})
    return ended


async def listed(uow: UnitOfWork, user_id: UUID, *, idle_s: int, current: bytes | None = None) -> list[Session]:
    """The live sessions of a user, the last used first."""
    return [_session(row, current) for row in await _rows(uow, user_id, float(idle_s))]


async def prune(uow: UnitOfWork, *, idle_s: int) -> int:
    """Delete sessions that have ended (engine role); for the upkeep."""
    return await SQL.sessions_prune.run(uow.raw, float(idle_s))


_FOREVER_S = 10.0 * 365 * 86400


def read_id(session_id: str) -> bytes:
    """The token hash a session's id stands for. Raises Refused(not_found)."""
    try:
        token_hash = bytes.fromhex(session_id)
    except ValueError:
        token_hash = b""
    if len(token_hash) != hashlib.sha256().digest_size:
        raise Refused("not_found", "no such session", field="/id", status=404)
    return token_hash


async def _rows(uow: UnitOfWork, user_id: UUID, idle_s: float) -> list[asyncpg.Record]:
    return await SQL.sessions_of.many(uow.raw, uow.tenant_id, user_id, idle_s)


def _session(row: asyncpg.Record, current: bytes | None) -> Session:
    return Session(
        id=row["token_hash"].hex(),
        created_at=row["created_at"],
        seen_at=row["seen_at"],
        expires_at=row["expires_at"],
        ip=row["ip"],
        user_agent=row["user_agent"],
        is_current=row["token_hash"] == current,
    )
