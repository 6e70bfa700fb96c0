"""Tenants: organisations that never see each other."""

from __future__ import annotations

import msgspec
from cyclopts import App

from outrider.data.db import Role
from outrider.domain.tenants import tenants
from outrider.interfaces.cli.doors import doors
from outrider.interfaces.cli.options import CHANGING, JSON, Changing, Json, Limit
from outrider.interfaces.cli.output import Answer, table
from outrider.interfaces.cli.work import note, within

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


@APP.command(name="list")
async def list_(*, limit: Limit = 1000, options: Json = JSON) -> Answer:
    """List tenants by name."""
    del options
    async with doors().database() as db, db.uow(Role.ENGINE) as uow:
        found = await tenants.listed(uow, limit=limit)
    rows = [msgspec.to_builtins(each) for each in found]
    return Answer(rows, table(rows, ("id", "name", "timezone", "created_at"), empty="no tenants"))
