"""Gates: what decides about every message before it goes, and what they are set to."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import msgspec
from cyclopts import App, Parameter

from outrider.data.db import Role
from outrider.domain.limits import gates as limits
from outrider.domain.messages import holds
from outrider.domain.tenants import tenants
from outrider.interfaces.cli import campaigns, plugin_settings
from outrider.interfaces.cli.options import CHANGING, COMMON, JSON, Changing, Common, Json
from outrider.interfaces.cli.output import Answer, table
from outrider.interfaces.cli.plugged import gates
from outrider.interfaces.cli.work import Work, changing, looking, note

APP = App(name="gates")
Campaign = Annotated[str | None, Parameter(help="What holds for this campaign, by name or id; absent: for the tenant.")]


@APP.command(name="list")
async def list_(*, options: Json = JSON) -> Answer:
    """List the gates in the order in which they are asked.

    Example: `outrider gates list`
    """
    del options
    found = sorted(gates(), key=lambda gate: gate.order)
    rows = [{"order": gate.order, "key": gate.key, "help": gate.help} for gate in found]
    return Answer(rows, table(rows, ("order", "key", "help"), empty="no gates"))


@APP.command
async def show(*, campaign: Campaign = None, options: Common = COMMON) -> Answer:
    """Show what gates are set to, and whether that is the campaign's own, the tenant's or the preset.

    Example: `outrider gates show --campaign spring`
    """
    async with looking(options) as work:
        if campaign is None:
            tenant = await tenants.get(work.uow, work.tenant_id, fields=tenants.known_fields(gates()))
            names = [field.name for gate in gates() for field in gate.fields]
            return _answer({name: tenant.settings[name] for name in names}, {})
        identifier = (await campaigns.find(work.uow, campaign)).id
        found = await limits.of_campaign(work.uow, identifier, limits.campaign_fields(gates()))
    return _answer(found.settings, found.own)


@APP.command(name="set")
async def set_(
    *,
    campaign: Campaign = None,
    set_: Annotated[list[str], Parameter(name="--set")],
    options: Changing = CHANGING,
) -> Answer:
    """Set gates for a tenant or otherwise for one of its campaigns; what they hold is asked about again at once.

    Example: `outrider gates set --set quiet_hours=20:00-08:00`

    Parameters
    ----------
    set_
        setting=value, several times; an empty value goes back to the tenant's, or to the preset.
    """
    fields = limits.campaign_fields(gates()) if campaign else tenants.known_fields(gates())
    given = {name: None if value == "" else value for name, value in plugin_settings.read(fields, set_, ()).items()}
    async with changing(options, role=Role.ENGINE) as work:
        if campaign is None:
            return await _of_tenant(work, given, options)
        identifier: UUID = (await campaigns.find(work.uow, campaign)).id
        found = await limits.set_of_campaign(
            work.uow, work.actor, identifier, given, gates=gates(), reason=options.reason
        )
        await holds.ask_again(work.uow, gates(), given, identifier)
    text = note(f"campaign {campaign}: {', '.join(given)} set", dry_run=options.dry_run)
    return Answer(msgspec.to_builtins(found), text)


async def _of_tenant(work: Work, given: dict[str, Any], options: Changing) -> Answer:
    fields = tenants.known_fields(gates())
    after = await tenants.change(
        work.uow, work.actor, work.tenant_id, settings=given, fields=fields, reason=options.reason
    )
    await holds.tenant_changed(work.uow, gates(), given, is_zone=False)
    text = note(f"tenant {after.name}: {', '.join(given)} set", dry_run=options.dry_run)
    return Answer(msgspec.to_builtins(after), text)


def _answer(settings: dict[str, Any], own: dict[str, Any]) -> Answer:
    rows = [
        {"setting": name, "value": value, "from": "campaign" if name in own else "tenant or preset"}
        for name, value in settings.items()
    ]
    return Answer({"settings": settings, "own": own}, table(rows, ("setting", "value", "from"), empty="no settings"))
