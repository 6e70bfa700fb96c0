"""Users: the people of a tenant; the first one of an installation is made here."""

from __future__ import annotations

import getpass
import secrets
import sys
from typing import Annotated, Literal

import msgspec
from cyclopts import App, Parameter

from outrider.base.errors import Refused
from outrider.domain.tenants import passwords, users
from outrider.interfaces.cli.doors import doors
from outrider.interfaces.cli.options import CHANGING, COMMON, Changing, Common, Limit
from outrider.interfaces.cli.output import Answer, table
from outrider.interfaces.cli.work import looking, note, tenant_of, within

APP = App(name="user")

_COLUMNS = ("email", "name", "role", "is_installation_admin", "is_active", "last_login_at", "id")
_GENERATED_BYTES = 18


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
        async with within(db, tenant_id, dry_run=options.dry_run) as work:
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


@APP.command(name="list")
async def list_(*, limit: Limit = 1000, options: Common = COMMON) -> Answer:
    """List the users of a tenant."""
    async with looking(options) as work:
        found = await users.listed(work.uow, limit=limit)
    rows = [msgspec.to_builtins(each) for each in found]
    return Answer(rows, table(rows, _COLUMNS, empty="no users"))


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
