"""Users: the people of a tenant. A fresh installation has none; the command line makes the first."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import asyncpg
import msgspec
from email_validator import EmailNotValidError, validate_email

from outrider.base.errors import Broken, Refused
from outrider.base.ids import NIL
from outrider.contracts.actor import Actor
from outrider.data.db import UnitOfWork
from outrider.domain.audit.append import append
from outrider.domain.tenants import attempts, passwords
from outrider.domain.tenants.roles import check_role
from outrider.domain.tenants.rows import SQL

LONGEST_EMAIL = 254
_LONGEST_NAME = 200


class User(msgspec.Struct, frozen=True):
    """A person of one tenant, without the password."""

    tenant_id: UUID
    id: UUID
    email: str
    name: str
    role: str
    is_installation_admin: bool
    is_active: bool
    created_at: datetime
    last_login_at: datetime | None
    password_changed_at: datetime


def normalise_email(text: str, *, field: str = "/email") -> str:
    """The one form of an address people sign in with: NFC, lower case, nothing around it.

    Raises:  Refused(invalid_email).
    """
    if len(text) > LONGEST_EMAIL * 2:
        raise Refused("invalid_email", f"must have at most {LONGEST_EMAIL} characters", field=field)
    try:
        found = validate_email(text.strip(), check_deliverability=False, test_environment=True)
    except EmailNotValidError:
        raise Refused("invalid_email", "must be an e-mail address", field=field) from None
    return found.normalized.lower()


async def create(
    uow: UnitOfWork,
    actor: Actor,
    *,
    email: str,
    role: str,
    name: str = "",
    password_hash: str = passwords.NO_PASSWORD,
    is_installation_admin: bool = False,
) -> User:
    """Make a user of the unit of work's tenant.

    Takes:   password_hash of `passwords.hashed`, made before the unit of work began (hashing takes long); without
             one the person sets a password with a token of `resets`.
    Raises:  Refused(invalid_email, unknown_role, invalid_name, email_taken).
    """
    row = await SQL.user_add.one(
        uow.raw,
        uow.tenant_id,
        normalise_email(email),
        _name(name),
        password_hash,
        check_role(role),
        is_installation_admin,
    )
    if row is None:
        raise Refused("email_taken", "a user of this tenant has this address", field="/email", status=409)
    user = read(row)
    details = {"email": user.email, "role": role, "is_installation_admin": is_installation_admin}
    await append(uow, actor, action="user.create", target=("user", str(user.id)), details=details)
    return user


async def change(
    uow: UnitOfWork,
    actor: Actor,
    user_id: UUID,
    *,
    name: str | None = None,
    role: str | None = None,
    is_installation_admin: bool | None = None,
    is_active: bool | None = None,
    reason: str = "not given",
) -> User:
    """Change what is given; sessions of a deactivated user end at once, a changed role holds from the next request.

    Raises:  Refused(not_found, unknown_role, invalid_name); Refused(last_owner) when nobody would be left who may
             make owners.
    """
    before = await _locked(uow, user_id)
    row = await SQL.user_change.one(
        uow.raw,
        uow.tenant_id,
        user_id,
        before.name if name is None else _name(name),
        before.role if role is None else check_role(role),
        before.is_installation_admin if is_installation_admin is None else is_installation_admin,
        before.is_active if is_active is None else is_active,
    )
    if row is None:
        raise Broken("user_lost", "a locked row vanished")
    after = read(row)
    if _is_owner(before) and not _is_owner(after) and not await SQL.owners_left.value(uow.raw, uow.tenant_id, user_id):
        raise Refused("last_owner", "is the last active owner of this tenant; make another one first", status=409)
    if not after.is_active or after.role != before.role:
        await SQL.sessions_end_all.run(uow.raw, uow.tenant_id, user_id)
    old, new = msgspec.structs.asdict(before), msgspec.structs.asdict(after)
    details = {key: [old[key], new[key]] for key in new if old[key] != new[key]}
    await append(uow, actor, action="user.change", target=("user", str(user_id)), reason=reason, details=details)
    return after


async def deactivate(uow: UnitOfWork, actor: Actor, user_id: UUID, *, reason: str = "not given") -> User:
    """Take a user's access away at once; the account stays, because the audit log names it."""
    return await change(uow, actor, user_id, is_active=False, reason=reason)


async def set_password(uow: UnitOfWork, actor: Actor, user_id: UUID, password_hash: str, *, keep: bytes = b"") -> None:
    """Set a password and end every session of the user but the one named by `keep` (its token's hash). Audited.

    Raises:  Refused(not_found).
    """
    user = await _locked(uow, user_id)
    await SQL.user_password.run(uow.raw, uow.tenant_id, user_id, password_hash)
    await SQL.sessions_end_others.run(uow.raw, uow.tenant_id, user_id, keep)
    await append(uow, actor, action="user.password", target=("user", str(user.id)))


async def unlock(
    uow: UnitOfWork, actor: Actor, user_id: UUID, *, is_for_all: bool = False, reason: str = "not given"
) -> User:
    """Let somebody sign in again before the lock of too many wrong passwords ends (engine role). Audited.

    Takes:   is_for_all: an administrator of the installation asks. Else the lock of an address that users of other
             tenants have too goes on to its end: it protects them as well, and nobody is told that they exist.
    """
    user = await get(uow, user_id)
    if is_for_all:
        await attempts.forget(uow, user.email)
    else:
        await attempts.forgive(uow, user.email, right_count=0)
    target = ("user", str(user_id))
    await append(uow, actor, action="user.unlock", target=target, reason=reason, tenant_id=uow.tenant_id or NIL)
    return user


async def get(uow: UnitOfWork, user_id: UUID) -> User:
    """One user of the unit of work's tenant. Raises Refused(not_found)."""
    row = await SQL.user_get.one(uow.raw, uow.tenant_id, user_id)
    if row is None:
        raise _unknown()
    return read(row)


async def find(uow: UnitOfWork, email_or_id: str) -> User:
    """A user of the unit of work's tenant by the address, in any case, or the id. Raises Refused(not_found)."""
    wanted = email_or_id.strip().lower()
    row = await SQL.user_named.one(uow.raw, uow.tenant_id, wanted) if "\0" not in wanted else None
    if row is None:
        raise _unknown()
    return read(row)


async def listed(uow: UnitOfWork, *, after_email: str = "", limit: int = 50) -> list[User]:
    """A page of the tenant's users by address."""
    return [read(row) for row in await SQL.users_after.many(uow.raw, uow.tenant_id, after_email, limit)]


async def count(uow: UnitOfWork) -> int:
    """How many users the whole installation has (engine role): 0 means that nobody can sign in yet."""
    return int(await SQL.user_count.value(uow.raw))


async def _locked(uow: UnitOfWork, user_id: UUID) -> User:
    row = await SQL.user_lock.one(uow.raw, uow.tenant_id, user_id)
    if row is None:
        raise _unknown()
    return read(row)


def _unknown() -> Refused:
    return Refused("not_found", "no such user", field="/id", status=404)


def _is_owner(user: User) -> bool:
    return user.role == "owner" and user.is_active


def _name(name: str) -> str:
    if len(name) > _LONGEST_NAME or not name.isprintable():
        raise Refused("invalid_name", f"must have at most {_LONGEST_NAME} printable characters", field="/name")
    return name.strip()


def read(row: asyncpg.Record) -> User:
    """A user from a row that has at least its columns."""
    return User(**{name: row[name] for name in User.__struct_fields__})
