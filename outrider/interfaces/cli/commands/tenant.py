"""Tenants: organisations that never see each other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
from cyclopts import App, Parameter

from outrider.base.errors import Refused
from outrider.data.db import Role
from outrider.domain.messages import holds
from outrider.domain.tenants import looks, tenants
from outrider.domain.tenants.looks import LookChange, LookView
from outrider.interfaces.cli import plugin_settings
from outrider.interfaces.cli.doors import doors
from outrider.interfaces.cli.options import CHANGING, COMMON, JSON, Changing, Common, Json, Limit, readable_file
from outrider.interfaces.cli.output import Answer, facts, table
from outrider.interfaces.cli.plugged import gates
from outrider.interfaces.cli.work import changing, looking, note, tenant_of, within

APP = App(name="tenant")


@APP.command
async def create(name: str, *, timezone: str = "UTC", options: Changing = CHANGING) -> Answer:
    """Make a tenant.

    Example: `outrider tenant create gardens --timezone Europe/Vienna`

    Parameters
    ----------
    name
        Its name: 1 to 80 letters, digits and spaces.
    timezone
        Its IANA time zone.
    """
    async with (
        doors().database() as db,
        within(db, None, role=Role.ENGINE, dry_run=options.dry_run, reason=options.reason) as work,
    ):
        made = await tenants.create(work.uow, work.actor, name, timezone)
    return Answer(msgspec.to_builtins(made), note(f"made tenant {made.name} ({made.id})", dry_run=options.dry_run))


@APP.command
async def change(
    which: str,
    *,
    name: str | None = None,
    timezone: str | None = None,
    set_: Annotated[list[str] | None, Parameter(name="--set")] = None,
    options: Changing = CHANGING,
) -> Answer:
    """Rename a tenant, set its time zone or its settings; what is not named stays.

    Example: `outrider tenant change default --set default_region=AU`

    Parameters
    ----------
    which
        Its exact name or id.
    name
        Its new name.
    timezone
        Its IANA time zone.
    set_
        setting=value, several times; an empty value goes back to the preset.
    """
    fields = tenants.known_fields(gates())
    given: dict[str, Any] = plugin_settings.read(fields, set_ or (), ())
    settings = {setting: None if value == "" else value for setting, value in given.items()}
    if name is None and timezone is None and not settings:
        raise Refused("required", "name what to change: --name, --timezone or --set")
    async with doors().database() as db:
        tenant_id = await tenant_of(db, which, field="which")
        async with within(db, tenant_id, role=Role.ENGINE, dry_run=options.dry_run, reason=options.reason) as work:
            after = await tenants.change(
                work.uow,
                work.actor,
                tenant_id,
                name=name,
                timezone=timezone,
                settings=settings,
                fields=fields,
                reason=options.reason,
            )
            await holds.tenant_changed(work.uow, gates(), settings, is_zone=timezone is not None)
    text = f"tenant {after.name} is changed ({after.timezone})"
    return Answer(msgspec.to_builtins(after), note(text, dry_run=options.dry_run))


@APP.command(name="list")
async def list_(*, limit: Limit = 1000, options: Json = JSON) -> Answer:
    """List tenants by name.

    Example: `outrider tenant list`
    """
    del options
    async with doors().database() as db, db.uow(Role.ENGINE) as uow:
        found = await tenants.listed(uow, limit=limit)
    rows = [msgspec.to_builtins(each) for each in found]
    return Answer(rows, table(rows, ("id", "name", "timezone", "created_at"), empty="no tenants"))


@APP.command
async def look(
    *,
    display_name: str | None = None,
    colour: str | None = None,
    colour_dark: str | None = None,
    footer: str | None = None,
    logo: Path | None = None,
    no_logo: Annotated[bool, Parameter(negative="")] = False,
    options: Changing = CHANGING,
) -> Answer:
    """Change how a tenant's public pages look: forms, preference centre, unsubscribing. Shows it when nothing is named.

    Example: `outrider tenant look --display-name "The Gardens" --colour "#1b6b3a"`

    Parameters
    ----------
    display_name
        The name on the pages; empty: the tenant's.
    colour
        Buttons and links by day, as #rrggbb; it must be readable on white. Empty: the pages' own.
    colour_dark
        Buttons and links by night, as #rrggbb; it must be readable on a dark page. Empty: the pages' own.
    footer
        The text below every page; empty: none.
    logo
        A PNG or JPEG file of at most 64 KiB and 1600 x 1600 pixels.
    no_logo
        Show no picture.
    """
    change = LookChange(display_name, colour, colour_dark, footer)
    if logo is not None and no_logo:
        raise Refused("conflict", "give a logo or take it away, not both", field="--no-logo")
    if change == LookChange() and logo is None and not no_logo:
        return await _shown(options)
    picture = None if logo is None else readable_file(logo, "--logo").read_bytes()
    async with changing(options) as work:
        after = await looks.get(work.uow)
        if change != LookChange():
            after = await looks.change(work.uow, work.actor, change, reason=options.reason)
        if picture is not None or no_logo:
            after = await looks.set_logo(work.uow, work.actor, picture, reason=options.reason)
    return Answer(msgspec.to_builtins(after), note(_told(after), dry_run=options.dry_run))


async def _shown(options: Common = COMMON) -> Answer:
    async with looking(options) as work:
        found = await looks.get(work.uow)
    return Answer(msgspec.to_builtins(found), _told(found))


def _told(found: LookView) -> str:
    return facts(
        {
            "name on the pages": found.display_name or "the tenant's",
            "colour": found.colour or "the pages' own",
            "colour by night": found.colour_dark or "the pages' own",
            "footer": found.footer or None,
            "logo": f"{found.logo_bytes} bytes" if found.has_logo else "none",
            "changed by": found.changed_by,
        }
    )
