"""The do-not-contact list: add an address, take one away, look one up, list."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from cyclopts import App, Parameter

from outrider.data.db import Database, Role
from outrider.domain.contacts import suppressions
from outrider.domain.contacts.imports.options import Options
from outrider.interfaces.cli import importing
from outrider.interfaces.cli.addressed import AnyChannel, channel_of
from outrider.interfaces.cli.confirm import Yes, confirm
from outrider.interfaces.cli.doors import doors
from outrider.interfaces.cli.options import CHANGING, COMMON, Changing, Common, Limit
from outrider.interfaces.cli.output import Answer, table
from outrider.interfaces.cli.plugged import channels
from outrider.interfaces.cli.work import looking, note, tenant_of, within

APP = App(name="suppressions")

_COLUMNS = (
    "channel", "address", "scope", "reason", "note", "source", "is_installation", "created_by", "created_at",
    "expires_at",
)  # fmt: skip
Everywhere = Annotated[bool, Parameter(name="--every-tenant", negative="", help="The installation's own list.")]


@APP.command
async def add(
    address: str,
    *,
    channel: AnyChannel = None,
    scope: Literal["all", "bulk"] = "all",
    every_tenant: Everywhere = False,
    options: Changing = CHANGING,
) -> Answer:
    """Put an address on the list: nothing is sent to it from the commit on.

    Example: `outrider suppressions add ann@example.org --reason "asked by telephone"`

    Parameters
    ----------
    address
        The address, in any form the channel understands.
    scope
        bulk lets transactional messages through.
    """
    async with doors().database() as db:
        role, tenant_id = await _place(db, options, every_tenant=every_tenant)
        async with within(db, tenant_id, role=role, dry_run=options.dry_run, reason=options.reason) as work:
            changed = await suppressions.suppress(
                work.uow,
                channels(),
                work.actor,
                channel_of(address, channel),
                address,
                scope=scope,
                source="cli",
                note=options.reason,
            )
    text = "nothing is sent to it any more" if changed else "it was on the list already"
    return Answer({"address": address, "changed": changed}, note(text, dry_run=options.dry_run))


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


async def _place(db: Database, options: Common, *, every_tenant: bool) -> tuple[Role, UUID | None]:
    """Role and tenant; the installation's list belongs to no tenant."""
    return (Role.ENGINE, None) if every_tenant else (Role.APP, await tenant_of(db, options.tenant))
