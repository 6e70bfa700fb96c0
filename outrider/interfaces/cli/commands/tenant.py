"""Tenants: organisations that never see each other."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from cyclopts import App, Parameter

from outrider.base.errors import Refused
from outrider.data.db import Role
from outrider.domain.messages import holds
from outrider.domain.tenants import tenants
from outrider.interfaces.cli import plugin_settings
from outrider.interfaces.cli.doors import doors
from outrider.interfaces.cli.options import CHANGING, JSON, Changing, Json, Limit
from outrider.interfaces.cli.output import Answer, table
from outrider.interfaces.cli.plugged import gates
from outrider.interfaces.cli.work import note, tenant_of, within

APP = App(name="tenant")


@APP.command
async def create(name: str, *, timezone: str = "UTC", options: Changing = CHANGING) -> Answer:
    """Make a tenant.

    Parameters
    ----------
    name
        Its name: 1 to 80 letters, digits and spaces.
    timezone
        Its IANA time zone.
    """
    async with (
        doors().database() as db,
        within(db, None, role=Role.ENGINE, dry_run=options.dry_run) as work,
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
        async with within(db, tenant_id, role=Role.ENGINE, dry_run=options.dry_run) as work:
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
    """List tenants by name."""
    del options
    async with doors().database() as db, db.uow(Role.ENGINE) as uow:
        found = await tenants.listed(uow, limit=limit)
    rows = [msgspec.to_builtins(each) for each in found]
    return Answer(rows, table(rows, ("id", "name", "timezone", "created_at"), empty="no tenants"))
