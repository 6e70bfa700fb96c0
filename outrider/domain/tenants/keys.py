"""API keys: made once, shown once, stored as hashes, scoped, revoked at once."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime
from uuid import UUID

import asyncpg
import msgspec

from outrider.base.clock import utc_now
from outrider.base.errors import Broken, Refused
from outrider.contracts.actor import Actor
from outrider.data.db import UnitOfWork
from outrider.domain.audit.append import append
from outrider.domain.tenants.roles import check_role, check_scopes
from outrider.domain.tenants.rows import SQL

PREFIX = "or_live_"
_SECRET_BYTES = 32
KEY_CHARACTERS = len(PREFIX) + 43
_SHOWN_CHARACTERS = len(PREFIX) + 6
_LONGEST_NAME = 100
NEWEST = UUID(int=2**128 - 1)
"""The cursor of the first page."""


class Key(msgspec.Struct, frozen=True):
    """A key without the key: `prefix` is its beginning, enough to recognise it."""

    id: UUID
    name: str
    prefix: str
    role: str
    scopes: list[str]
    created_by: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


class FoundKey(msgspec.Struct, frozen=True):
    """Whose key this is."""

    tenant_id: UUID
    id: UUID
    name: str
    role: str
    scopes: list[str]


def hash_key(key: str) -> bytes | None:
    """The hash a key is found by; None for what cannot be a key of ours."""
    if len(key) != KEY_CHARACTERS or not key.startswith(PREFIX) or not key.isascii():
        return None
    return hashlib.sha256(key.encode()).digest()


async def create(
    uow: UnitOfWork,
    actor: Actor,
    *,
    name: str,
    role: str,
    scopes: list[str],
    expires_at: datetime | None = None,
) -> tuple[Key, str]:
    """Make a key of the unit of work's tenant: 256 random bits, shown here and never again. Audited.

    Raises:  Refused(invalid_name, unknown_role, unknown_scope, scope_beyond_role, invalid_expiry).
    """
    if not name.strip() or len(name) > _LONGEST_NAME or not name.isprintable():
        raise Refused("invalid_name", f"must have 1 to {_LONGEST_NAME} printable characters", field="/name")
    check_role(role)
    granted = check_scopes(scopes, role)
    if not granted:
        raise Refused("scopes_missing", "a key without scopes could do nothing; name at least one", field="/scopes")
    if expires_at is not None and (expires_at.tzinfo is None or expires_at <= utc_now()):
        raise Refused("invalid_expiry", "must be a moment in the future with its offset from UTC", field="/expires_at")
    key = PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
    row = await SQL.key_add.one(
        uow.raw,
        uow.tenant_id,
        name.strip(),
        key[:_SHOWN_CHARACTERS],
        hashlib.sha256(key.encode()).digest(),
        role,
        granted,
        actor.name,
        expires_at,
    )
    if row is None:
        raise Broken("key_lost", "the statement gives the row it wrote")
    made = _key(row)
    details = {"name": made.name, "role": role, "scopes": granted, "prefix": made.prefix, "expires_at": expires_at}
    await append(uow, actor, action="key.create", target=("key", str(made.id)), details=details)
    return made, key


async def revoke(uow: UnitOfWork, actor: Actor, key_id: UUID, *, reason: str = "not given") -> Key:
    """Revoke a key: refused everywhere within a second of the commit. Audited each time; revoking twice is no error.

    Raises:  Refused(not_found).
    """
    row = await SQL.key_revoke.one(uow.raw, uow.tenant_id, key_id)
    if row is None:
        raise Refused("not_found", "no such key", field="/id", status=404)
    key = _key(row)
    await append(
        uow, actor, action="key.revoke", target=("key", str(key_id)), reason=reason, details={"name": key.name}
    )
    return key


async def find(uow: UnitOfWork, key_hash: bytes) -> FoundKey | None:
    """Whose key this is, if it is neither revoked nor expired (engine role); notes its use once a minute."""
    row = await SQL.key_find.one(uow.raw, key_hash)
    if row is None:
        return None
    if row["is_stale"]:
        await SQL.key_touch.run(uow.raw, row["tenant_id"], row["id"])
    return FoundKey(**{name: row[name] for name in FoundKey.__struct_fields__})


async def get(uow: UnitOfWork, key_id: UUID) -> Key:
    """One key. Raises Refused(not_found)."""
    row = await SQL.key_get.one(uow.raw, uow.tenant_id, key_id)
    if row is None:
        raise Refused("not_found", "no such key", field="/id", status=404)
    return _key(row)


async def listed(uow: UnitOfWork, *, before: UUID = NEWEST, limit: int = 50) -> list[Key]:
    """A page of the tenant's keys, newest first, revoked ones included."""
    return [_key(row) for row in await SQL.keys_before.many(uow.raw, uow.tenant_id, before, limit)]


def _key(row: asyncpg.Record) -> Key:
    return Key(**{name: row[name] for name in Key.__struct_fields__})
