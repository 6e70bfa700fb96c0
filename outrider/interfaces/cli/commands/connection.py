"""Connections: accounts at providers, such as a mail server; their secrets are sealed with the installation's key."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from cyclopts import App, Parameter

from outrider.data.runtime import Runtime
from outrider.domain.callbacks.examine import examined
from outrider.domain.limits import first_rates
from outrider.domain.senders import circuits, connections
from outrider.domain.senders.connections import ConnectionView, Vault
from outrider.interfaces.cli import exits, named, plugin_settings
from outrider.interfaces.cli.confirm import Yes, confirm
from outrider.interfaces.cli.options import CHANGING, COMMON, Changing, Common, Limit
from outrider.interfaces.cli.output import Answer, facts, table
from outrider.interfaces.cli.work import Work, note, wired

APP = App(name="connection")

_COLUMNS = ("id", "name", "provider", "settings", "version", "updated_at")
Pairs = Annotated[
    list[str] | None, Parameter(name="--set", help="name=value, several times; `outrider plugins` lists the settings.")
]
Secrets = Annotated[
    list[str] | None, Parameter(name="--secret", help="Name of a secret, asked for, or read from a line of stdin.")
]


@APP.command
async def create(
    name: str, *, provider: str = "smtp", set_: Pairs = None, secret: Secrets = None, options: Changing = CHANGING
) -> Answer:
    """Make a connection.

    Example: `outrider connection create mx --set host=mail.example.org --set username=shop --secret password`

    Parameters
    ----------
    name
        What you call it.
    provider
        Which provider it leads to.
    """
    async with wired(options) as (runtime, work):
        vault = vault_of(runtime)
        found = connections.provider_of(vault, provider)
        settings = plugin_settings.read(found.fields, set_ or (), secret or ())
        made = await connections.create(work.uow, vault, work.actor, name=name, provider=provider, settings=settings)
        await first_rates.give(work.uow, work.actor, made.id, found)
    return Answer(msgspec.to_builtins(made), note(f"made connection {made.name} ({made.id})", dry_run=options.dry_run))


@APP.command
async def update(
    which: str,
    *,
    name: str | None = None,
    set_: Pairs = None,
    secret: Secrets = None,
    options: Changing = CHANGING,
) -> Answer:
    """Change a connection; what is not named stays.

    Example: `outrider connection update mx --set port=587`

    Parameters
    ----------
    which
        Its name or id.
    name
        Its new name.
    """
    async with wired(options) as (runtime, work):
        vault = vault_of(runtime)
        before = await find(work, vault, which)
        provider = connections.provider_of(vault, before.provider)
        settings = plugin_settings.read(provider.fields, set_ or (), secret or ())
        made = await connections.update(work.uow, vault, work.actor, before.id, name=name, settings=settings or None)
    return Answer(msgspec.to_builtins(made), note(f"connection {made.name} is changed", dry_run=options.dry_run))


@APP.command
async def delete(which: str, *, yes: Yes = False, options: Changing = CHANGING) -> Answer:
    """Delete a connection that no sender uses, with its secrets.

    Example: `outrider connection delete mx`

    Parameters
    ----------
    which
        Its name or id.
    """
    if not options.dry_run:
        confirm(f"connection {which} and its secrets will be gone", "delete", yes=yes)
    async with wired(options) as (runtime, work):
        before = await find(work, vault_of(runtime), which)
        await connections.delete(work.uow, work.actor, before.id)
    return Answer({"id": before.id}, note(f"connection {before.name} is deleted", dry_run=options.dry_run))


@APP.command
async def examine(which: str, *, options: Common = COMMON) -> Answer:
    """Try every stage of a connection (name, TCP, TLS, sign-in); sends nothing. Exit 1 when one fails.

    Example: `outrider connection examine mx`

    Parameters
    ----------
    which
        Its name or id.
    """
    async with wired(options) as (runtime, work):
        vault = vault_of(runtime)
        found = await find(work, vault, which)
        account = await connections.opened(work.uow, vault, found.id)
        stages = await examined(runtime, account, work.tenant_id, found.id)
    rows: list[dict[str, Any]] = [msgspec.to_builtins(each) for each in stages]
    is_good = all(each.is_ok for each in stages)
    return Answer(rows, table(rows, ("name", "is_ok", "detail")), exits.OK if is_good else exits.CHECK_FAILED)


@APP.command
async def circuit(which: str, *, options: Common = COMMON) -> Answer:
    """Say whether a connection can be reached, as all workers see it together. Exit 1 while its circuit is open.

    Example: `outrider connection circuit mx`

    Parameters
    ----------
    which
        Its name or id.
    """
    async with wired(options) as (runtime, work):
        found = await find(work, vault_of(runtime), which)
        known = await circuits.of_connection(work.uow, found.id)
    if known is None:
        return Answer({"state": "closed"}, f"nothing is known against connection {found.name}")
    told = msgspec.to_builtins(known)
    return Answer(told, facts(told), exits.CHECK_FAILED if known.state == "open" else exits.OK)


@APP.command
async def reset_circuit(which: str, *, yes: Yes = False, options: Changing = CHANGING) -> Answer:
    """Take a connection for reachable again, at once and without a slow start; for after a repair.

    Example: `outrider connection reset-circuit mx`

    Parameters
    ----------
    which
        Its name or id.
    """
    if not options.dry_run:
        confirm(f"workers will send by connection {which} again within 5 seconds", "reset-circuit", yes=yes)
    async with wired(options) as (runtime, work):
        found = await find(work, vault_of(runtime), which)
        await circuits.reset(work.uow, work.actor, found.id, reason=options.reason)
    said = f"connection {found.name} is taken for reachable"
    return Answer({"id": found.id}, note(said, dry_run=options.dry_run))


@APP.command(name="list")
async def list_(*, limit: Limit = 100, options: Common = COMMON) -> Answer:
    """List connections; never their secrets.

    Example: `outrider connection list`
    """
    async with wired(options) as (runtime, work):
        found = await connections.listed(work.uow, vault_of(runtime), limit=limit)
    rows = [msgspec.to_builtins(each) for each in found]
    shown = [{**row, "settings": _short(row["settings"])} for row in rows]
    return Answer(rows, table(shown, _COLUMNS, empty="no connections"))


def vault_of(runtime: Runtime) -> Vault:
    """What connections need of the runtime."""
    return Vault(runtime.providers, runtime.keyring, runtime.egress)


async def find(work: Work, vault: Vault, which: str) -> ConnectionView:
    """A connection by name or id.

    Raises:  Refused(not_found).
    """

    async def page(after: Any, limit: int) -> list[ConnectionView]:
        return await connections.listed(work.uow, vault, limit=limit, after=after)

    return await named.find(which, "connection", page, field="connection")


def _short(settings: dict[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in settings.items() if value is not None)
