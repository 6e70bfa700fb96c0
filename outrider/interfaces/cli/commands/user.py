"""Users: the people of a tenant, their roles and access; the first one of an installation is made here."""

from __future__ import annotations

import getpass
import secrets
import sys
from typing import Annotated, Any, Literal

import msgspec
from cyclopts import App, Parameter

from outrider.base.errors import Refused
from outrider.data.db import Role, UnitOfWork
from outrider.domain.tenants import passwords, sessions, users
from outrider.interfaces.cli.doors import doors
from outrider.interfaces.cli.options import CHANGING, COMMON, Changing, Common, Limit
from outrider.interfaces.cli.output import Answer, table
from outrider.interfaces.cli.work import changing, looking, note, tenant_of, within

APP = App(name="user")

_COLUMNS = ("email", "name", "role", "is_installation_admin", "is_active", "last_login_at", "id")
_GENERATED_BYTES = 18
Who = Annotated[str, Parameter(help="The person's address or id.")]


@APP.command
async def create(
    email: str,
    *,
    role: Literal["viewer", "support", "operator", "admin", "owner"] = "operator",
    name: str = "",
    installation_admin: Annotated[bool, Parameter(negative="")] = False,
    password_stdin: Annotated[bool, Parameter(negative="")] = False,
    options: Changing = CHANGING,
) -> Answer:
    """Make a user. Asks for the password on a terminal; elsewhere one is made and shown once.

    Example: `outrider user create ann@example.org --role admin --name Ann`

    Parameters
    ----------
    email
        The address the person signs in with.
    role
        What the person may do in the tenant.
    name
        What others see.
    installation_admin
        May also do what concerns every tenant.
    password_stdin
        Read the password from the first line of stdin.
    """
    password, is_generated = _password(from_stdin=password_stdin)
    address = users.normalise_email(email, field="email")
    hashed = await passwords.hashed(passwords.check_new(password, about=(address, name), field="password"))
    async with doors().database() as db:
        tenant_id = await tenant_of(db, options.tenant)
        async with within(db, tenant_id, dry_run=options.dry_run, reason=options.reason) as work:
            made = await users.create(
                work.uow,
                work.actor,
                email=address,
                role=role,
                name=name,
                password_hash=hashed,
                is_installation_admin=installation_admin,
            )
    shown = {"password": password} if is_generated else {}
    text = note(f"made user {made.email} ({made.role}, {made.id})", dry_run=options.dry_run)
    if is_generated:
        text += f"\npassword (shown this once): {password}"
    return Answer({**msgspec.to_builtins(made), **shown}, text)


@APP.command
async def change(
    user: Who,
    *,
    role: Literal["viewer", "support", "operator", "admin", "owner"] | None = None,
    name: str | None = None,
    installation_admin: bool | None = None,
    options: Changing = CHANGING,
) -> Answer:
    """Change a user; what is not named stays. Another role ends the person's sessions at once.

    Example: `outrider user change ann@example.org --role operator`

    Parameters
    ----------
    role
        What the person may do in the tenant from now on.
    name
        What others see.
    installation_admin
        May also do what concerns every tenant.
    """
    if role is None and name is None and installation_admin is None:
        raise Refused("required", "name what to change: --role, --name or --installation-admin")
    return await _changed(user, options, "changed", role=role, name=name, is_installation_admin=installation_admin)


@APP.command
async def deactivate(user: Who, *, options: Changing = CHANGING) -> Answer:
    """Take a user's access away at once; the account stays, because the audit log names it.

    Example: `outrider user deactivate ann@example.org --reason "has left"`
    """
    return await _changed(user, options, "deactivated", is_active=False)


@APP.command
async def reactivate(user: Who, *, options: Changing = CHANGING) -> Answer:
    """Give a deactivated user access again, with the role and password of before.

    Example: `outrider user reactivate ann@example.org`
    """
    return await _changed(user, options, "reactivated", is_active=True)


@APP.command
async def unlock(user: Who, *, options: Changing = CHANGING) -> Answer:
    """Let a user sign in again at once after too many wrong passwords.

    Example: `outrider user unlock ann@example.org`
    """
    async with changing(options, role=Role.ENGINE) as work:
        found = await _find(work.uow, user)
        await users.unlock(work.uow, work.actor, found.id, is_for_all=True, reason=options.reason)
    return Answer(msgspec.to_builtins(found), note(f"{found.email} may sign in again", dry_run=options.dry_run))


@APP.command
async def password(
    user: Who, *, password_stdin: Annotated[bool, Parameter(negative="")] = False, options: Changing = CHANGING
) -> Answer:
    """Set a user's password, as for somebody who forgot it; signs the person out everywhere.

    Asks for it on a terminal; elsewhere one is made and shown once.

    Example: `outrider user password ann@example.org --reason "forgot it"`

    Parameters
    ----------
    password_stdin
        Read the password from the first line of stdin.
    """
    given, is_generated = _password(from_stdin=password_stdin)
    async with changing(options) as work:
        found = await _find(work.uow, user)
        checked = passwords.check_new(given, about=(found.email, found.name), field="password")
        await users.set_password(work.uow, work.actor, found.id, await passwords.hashed(checked))
    text = note(f"{found.email} has a new password and is signed out everywhere", dry_run=options.dry_run)
    is_shown = is_generated and not options.dry_run
    if is_shown:
        text += f"\npassword (shown this once): {given}"
    return Answer({**msgspec.to_builtins(found), **({"password": given} if is_shown else {})}, text)


@APP.command(name="sign-out")
async def sign_out(user: Who, *, options: Changing = CHANGING) -> Answer:
    """Sign a user out everywhere, as for a lost laptop; the password stays.

    Example: `outrider user sign-out ann@example.org --reason "lost the laptop"`
    """
    async with changing(options) as work:
        found = await _find(work.uow, user)
        count = await sessions.end_all(work.uow, work.actor, found.id)
    text = note(f"{found.email} is signed out of {count} sessions", dry_run=options.dry_run)
    return Answer({"user_id": str(found.id), "ended_count": count}, text)


@APP.command(name="list")
async def list_(*, limit: Limit = 1000, options: Common = COMMON) -> Answer:
    """List the users of a tenant.

    Example: `outrider user list`
    """
    async with looking(options) as work:
        found = await users.listed(work.uow, limit=limit)
    rows = [msgspec.to_builtins(each) for each in found]
    return Answer(rows, table(rows, _COLUMNS, empty="no users"))


async def _changed(user: str, options: Changing, done: str, **changes: Any) -> Answer:
    """Change a user and say what holds now."""
    async with changing(options) as work:
        before = await _find(work.uow, user)
        after = await users.change(work.uow, work.actor, before.id, reason=options.reason, **changes)
    text = f"{after.email} is {done} ({after.role}, {'active' if after.is_active else 'not active'})"
    return Answer(msgspec.to_builtins(after), note(text, dry_run=options.dry_run))


async def _find(uow: UnitOfWork, user: str) -> users.User:
    try:
        return await users.find(uow, user)
    except Refused as error:
        raise Refused(error.code, f"no user {user[:100]!r} in this tenant", field="user", status=404) from None


def _password(*, from_stdin: bool) -> tuple[str, bool]:
    """The password, and whether it was made here."""
    if from_stdin:
        line = sys.stdin.readline() if sys.stdin is not None else ""
        if not line.strip("\r\n"):
            raise Refused("required", "stdin gave no password", field="--password-stdin")
        return line.rstrip("\r\n"), False
    if sys.stdin is not None and sys.stdin.isatty():
        first = getpass.getpass("Password: ")
        if first != getpass.getpass("Again: "):
            raise Refused("invalid_password", "the two were not the same", field="password")
        return first, False
    return secrets.token_urlsafe(_GENERATED_BYTES), True
