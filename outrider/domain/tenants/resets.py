"""Setting a password with a token that an administrator hands over: single use, an hour at most.

The token is signed, not stored: it names the user, the instant it ends and, in its signature, the instant of the last
password change, so that the first use ends it.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import struct
from datetime import UTC, datetime, timedelta
from uuid import UUID

from outrider.base.clock import utc_now
from outrider.base.errors import Refused
from outrider.base.secret import Keyring
from outrider.contracts.actor import Actor
from outrider.data.db import Database, Role, UnitOfWork
from outrider.domain.audit.append import append
from outrider.domain.tenants import attempts, passwords, users
from outrider.domain.tenants.rows import SQL

LASTS_S = 3600
_PURPOSE = "password-reset"
_BODY = struct.Struct(">16s16sQ")
_MAC_BYTES = 32


async def issue(uow: UnitOfWork, actor: Actor, keyring: Keyring, user_id: UUID) -> tuple[str, datetime]:
    """Make a token with which the user sets a new password; earlier ones stay valid until one is used. Audited.

    Gives:   the token, shown once, and when it ends. The user's password and sessions stay until then.
    Raises:  Refused(not_found).
    """
    user = await users.get(uow, user_id)
    ends_at = utc_now().replace(microsecond=0) + timedelta(seconds=LASTS_S)
    body = _BODY.pack(user.tenant_id.bytes, user.id.bytes, int(ends_at.timestamp()))
    await append(uow, actor, action="user.reset", target=("user", str(user.id)), details={"ends_at": ends_at})
    return base64.urlsafe_b64encode(body + _mac(keyring, body, user.password_changed_at)).decode(), ends_at


async def redeem(db: Database, keyring: Keyring, token: str, password: str, *, ip: str | None = None) -> None:
    """Set a password with a token; every session of the user ends, and an address that no other tenant has is unlocked.

    Raises:  Refused(invalid_token, 401) for a token that is not ours, has ended or was used; Refused for a password
             that is not allowed, in which case the token stays valid.
    """
    body, mac = _split(token)
    tenant_id, user_id, ends = _BODY.unpack(body)
    tenant, user = UUID(bytes=tenant_id), UUID(bytes=user_id)
    row = await _matching(db, keyring, tenant, user, body, mac)
    if row is None or datetime.fromtimestamp(ends, UTC) <= utc_now():
        raise _invalid()
    normal = passwords.check_new(password, about=(row.email, row.name))
    password_hash = await passwords.hashed(normal)
    async with db.uow(Role.ENGINE, tenant) as uow:
        now = await SQL.user_lock.one(uow.raw, tenant, user)
        if now is None or now["password_changed_at"] != row.password_changed_at or not now["is_active"]:
            raise _invalid()
        await attempts.forgive(uow, row.email, right_count=0)
        await users.set_password(uow, Actor("user", row.email, ip), user, password_hash)


async def _matching(
    db: Database, keyring: Keyring, tenant_id: UUID, user_id: UUID, body: bytes, mac: bytes
) -> users.User | None:
    """The user a token was made for, if its signature fits the last password change."""
    async with db.uow(Role.ENGINE, tenant_id) as uow:
        row = await SQL.user_get.one(uow.raw, tenant_id, user_id)
    changed_at = row["password_changed_at"] if row else datetime.fromtimestamp(0, UTC)
    fits = hmac.compare_digest(mac, _mac(keyring, body, changed_at))
    return users.read(row) if row is not None and fits and row["is_active"] else None


def _split(token: str) -> tuple[bytes, bytes]:
    size = _BODY.size + _MAC_BYTES
    try:
        raw = base64.b64decode(token, altchars=b"-_", validate=True) if len(token) <= 2 * size else b""
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != size:
        raise _invalid()
    return raw[: _BODY.size], raw[_BODY.size :]


def _mac(keyring: Keyring, body: bytes, changed_at: datetime) -> bytes:
    stamp = changed_at.astimezone(UTC).isoformat(timespec="microseconds").encode()
    return hmac.digest(keyring.derive(_PURPOSE), body + stamp, "sha256")


def _invalid() -> Refused:
    return Refused("invalid_token", "is not valid any more; ask for a new one", field="/token", status=401)
