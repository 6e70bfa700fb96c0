"""The do-not-contact list: add an address, take one away, look one up, list."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from cyclopts import App, Parameter

from outrider.base.errors import Refused, RefusedMany
from outrider.data.db import Database, Role
from outrider.domain.contacts import suppressions
from outrider.domain.contacts.imports.options import Options
from outrider.interfaces.cli import importing
from outrider.interfaces.cli.addressed import AnyChannel, channel_of
from outrider.interfaces.cli.confirm import Yes, confirm
from outrider.interfaces.cli.doors import doors
from outrider.interfaces.cli.options import CHANGING, COMMON, Changing, Common, Limit, text_of
from outrider.interfaces.cli.output import Answer, table
from outrider.interfaces.cli.plugged import channels
from outrider.interfaces.cli.work import Work, looking, note, tenant_of, within

APP = App(name="suppressions")

_COLUMNS = (
    "channel", "address", "scope", "reason", "note", "source", "is_installation", "created_by", "created_at",
    "expires_at",
)  # fmt: skip
Everywhere = Annotated[bool, Parameter(name="--every-tenant", negative="", help="The installation's own list.")]


@APP.command
async def add(
    addresses: list[str] | None = None,
    *,
    file: Path | None = None,
    channel: AnyChannel = None,
    scope: Literal["all", "bulk"] = "all",
    every_tenant: Everywhere = False,
    options: Changing = CHANGING,
) -> Answer:
    """Put addresses on the list, all or none: nothing is sent to them from the commit on.

    Example: `outrider suppressions add ann@example.org +14155550123 --reason "asked by telephone"`

    Parameters
    ----------
    addresses
        The addresses, up to 5,000, in any form their channel understands. `outrider suppressions import` takes more.
    file
        A text file with one address a line, besides; empty lines and those that begin with # are passed over.
    scope
        bulk lets transactional messages through.
    """
    given = [*(addresses or ()), *(_lines(file) if file is not None else ())]
    if not given:
        raise Refused("required", "give an address, several, or --file", field="ADDRESSES")
    entries = [suppressions.Entry(channel_of(each, channel), each, scope, "manual", options.reason) for each in given]
    async with doors().database() as db:
        role, tenant_id = await _place(db, options, every_tenant=every_tenant)
        async with within(db, tenant_id, role=role, dry_run=options.dry_run, reason=options.reason) as work:
            changed = await _added(work, entries)
    text = "nothing is sent to them any more" if len(given) > 1 else "nothing is sent to it any more"
    if changed < len(given):
        text += f"; {len(given) - changed} of {len(given)} were on the list already"
    one = {"address": given[0], "changed": bool(changed)} if len(given) == 1 else {}
    return Answer({"count": len(given), "changed_count": changed, **one}, note(text, dry_run=options.dry_run))


@APP.command
async def remove(
    address: str,
    *,
    channel: AnyChannel = None,
    force: Annotated[bool, Parameter(negative="")] = False,
    every_tenant: Everywhere = False,
    yes: Yes = False,
    options: Changing = CHANGING,
) -> Answer:
    """Take an address from the list; needs --reason. Consent that was withdrawn stays withdrawn.

    Example: `outrider suppressions remove ann@example.org --reason "a mistake of ours"`

    Parameters
    ----------
    address
        The address, in any form the channel understands.
    force
        Also when the recipient asked not to be contacted.
    """
    if not options.dry_run:
        confirm("this person may be written to again", "remove", yes=yes)
    async with doors().database() as db:
        role, tenant_id = await _place(db, options, every_tenant=every_tenant)
        async with within(db, tenant_id, role=role, dry_run=options.dry_run, reason=options.reason) as work:
            reason = "" if options.reason == CHANGING.reason else options.reason
            await suppressions.unsuppress(
                work.uow, channels(), work.actor, channel_of(address, channel), address, reason=reason, force=force
            )
    return Answer({"address": address}, note("it is off the list", dry_run=options.dry_run))


@APP.command
async def show(address: str, *, channel: AnyChannel = None, options: Common = COMMON) -> Answer:
    """Show what stands against an address: the tenant's entry and the installation's.

    Example: `outrider suppressions show ann@example.org`
    """
    async with looking(options) as work:
        found = await suppressions.lookup(work.uow, channels(), channel_of(address, channel), address)
    rows = [msgspec.to_builtins(each) for each in found]
    return Answer(rows, table(rows, _COLUMNS, empty="nothing stands against it"))


@APP.command(name="list")
async def list_(*, limit: Limit = 100, options: Common = COMMON) -> Answer:
    """List the tenant's entries.

    Example: `outrider suppressions list`
    """
    async with looking(options) as work:
        found = await suppressions.listed(work.uow, limit=limit)
    rows = [msgspec.to_builtins(each) for each in found]
    return Answer(rows, table(rows, _COLUMNS, empty="no entries"))


@APP.command(name="import")
async def import_(
    file: Path,
    *,
    source: str,
    why: suppressions.Reason | None = None,
    channel: str = "email",
    map_: Annotated[list[str] | None, Parameter(name="--map")] = None,
    errors: Path | None = None,
    options: Changing = CHANGING,
) -> Answer:
    """Import another system's suppressions: bounces, complaints, unsubscribes, a blocklist.

    Entries never become weaker or later. Of an address without a contact only the hash is kept. Rows that say nothing
    against an address, such as `enabled`, are counted as unchanged.

    Example: `outrider suppressions import stop.csv --source mailchimp --why unsubscribe`

    Parameters
    ----------
    file
        The CSV file: an address, and where known reason, time, source and note; others are not looked at.
    source
        Where this is known from, such as sendgrid.
    why
        The reason for all rows, for a file of bounces alone; then no column is looked at for it.
    channel
        Which channel the addresses belong to.
    map_
        header=field, several times: address, reason, at, source, note, ignore.
    errors
        Write every refused row to this CSV file (mode 0600).
    """
    asked = Options(
        kind="suppressions", channel=channel, reason=why, consent_source=source, mapping=importing.mapping_of(map_)
    )
    return await importing.take(file, asked, options, errors=errors)


async def _added(work: Work, entries: list[suppressions.Entry]) -> int:
    """How many are new or became stronger; a single one has an audit entry of its own."""
    if len(entries) == 1:
        (one,) = entries
        return await suppressions.suppress(
            work.uow, channels(), work.actor, one.channel, one.address, scope=one.scope, source="cli", note=one.note
        )
    try:
        return await suppressions.suppress_many(work.uow, channels(), work.actor, entries, source="cli")
    except RefusedMany as refused:
        raise RefusedMany([_named(each, [one.address for one in entries]) for each in refused.errors]) from None


def _named(error: Refused, given: list[str]) -> Refused:
    """What is wrong with one of several addresses, told by the address; its place is among those it was given with."""
    at = (error.field or "").split("/")[2]
    return Refused(error.code, f"{given[int(at)][:200]}: {error.message}", field=f"address {int(at) + 1}")


def _lines(file: Path) -> list[str]:
    """What stands in a file of one address a line."""
    lines = (line.strip() for line in text_of(file, "--file").removeprefix("\ufeff").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


async def _place(db: Database, options: Common, *, every_tenant: bool) -> tuple[Role, UUID | None]:
    """Role and tenant; the installation's list belongs to no tenant."""
    return (Role.ENGINE, None) if every_tenant else (Role.APP, await tenant_of(db, options.tenant))
