"""Quotas of open messages: how many may be waiting, of a tenant and in all, and how full they are."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from cyclopts import App, Parameter

from outrider.base.errors import Refused
from outrider.data.db import Role
from outrider.domain.messages import fills
from outrider.interfaces.cli import quotas
from outrider.interfaces.cli.doors import doors
from outrider.interfaces.cli.options import CHANGING, JSON, Changing, Json
from outrider.interfaces.cli.output import Answer, facts, table
from outrider.interfaces.cli.work import changing, note, within

APP = App(name="quota", help_epilogue="Example: `outrider quota`")

_COLUMNS = ("tenant", "open", "most", "ratio", "transactional", "bulk", "bulk_most", "is_own")
_PLACES = {"most": "--most", "tenant_most": "--per-tenant", "bulk_percent": "--bulk-percent"}
Count = Annotated[str | None, Parameter(help="A whole number, or `preset` for what Outrider comes with.")]


@APP.default
async def show(*, options: Json = JSON) -> Answer:
    """Show how full the installation's quota is, and those of the tenants that fill theirs the most."""
    del options
    async with doors().database() as db, db.uow(Role.ENGINE) as uow:
        everybody = await fills.installation(uow.raw)
        rows = [quotas.row(each) for each in await fills.fullest(uow.raw)]
    head = {
        "installation": quotas.line(everybody.fill),
        "of which": f"{everybody.fill.transactional:,} transactional, {everybody.fill.bulk:,} bulk",
        "per tenant": f"at most {everybody.tenant_most:,}, where a tenant has no quota of its own",
        "bulk": f"taken up to {everybody.bulk_percent} percent of a quota",
    }
    data = {"installation": _shown(everybody), "tenants": rows}
    return Answer(data, facts(head) + "\n\n" + table(rows, _COLUMNS, empty="nothing waits"))


@APP.command(name="set", help_epilogue="")
async def set_(*, most: str, options: Changing = CHANGING) -> Answer:
    """Set how many messages of a tenant may be waiting; holds at once, what waits already stays.

    Example: `outrider quota set --most 200000`

    Parameters
    ----------
    most
        A whole number, or `default` for what holds for every tenant.
    """
    wanted = None if most == "default" else _count(most, "--most")
    async with changing(options, role=Role.ENGINE) as work:
        try:
            await fills.set_for_tenant(work.uow, work.actor, work.tenant_id, wanted, reason=options.reason)
        except Refused as error:
            raise Refused(error.code, error.message, field="--most", status=error.http_status) from None
        fill = await fills.of_tenant(work.uow)
    return Answer(quotas.shown(fill), note(quotas.line(fill), dry_run=options.dry_run))


@APP.command(help_epilogue="")
async def installation(
    *,
    most: Count = None,
    per_tenant: Count = None,
    bulk_percent: Count = None,
    options: Changing = CHANGING,
) -> Answer:
    """Set what holds for everybody; holds at once, what waits already stays. What is not named stays.

    Example: `outrider quota installation --most 5000000 --bulk-percent 80`

    Parameters
    ----------
    most
        How many messages of all tenants may be waiting.
    per_tenant
        How many of one tenant, where it has no quota of its own.
    bulk_percent
        Up to which share of a quota bulk messages are taken; the rest is kept for transactional ones.
    """
    given = {"most": most, "tenant_most": per_tenant, "bulk_percent": bulk_percent}
    named = {
        name: None if text == "preset" else _count(text, _PLACES[name])
        for name, text in given.items()
        if text is not None
    }
    if not named:
        raise Refused("required", "name --most, --per-tenant or --bulk-percent")
    async with (
        doors().database() as db,
        within(db, None, role=Role.ENGINE, dry_run=options.dry_run, reason=options.reason) as work,
    ):
        change = fills.Change(**named, fields=_PLACES)
        found = await fills.set_for_all(work.uow, work.actor, change, reason=options.reason)
    text = (
        f"at most {found.fill.most:,} messages wait in all, {found.tenant_most:,} of a tenant; bulk ones are taken up "
        f"to {found.bulk_percent} percent"
    )
    return Answer(_shown(found), note(text, dry_run=options.dry_run))


def _shown(found: fills.Installation) -> dict[str, Any]:
    return {**msgspec.to_builtins(found), "fill": quotas.shown(found.fill)}


def _count(text: str, place: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(fills.LARGEST))):
        raise Refused("invalid_quota", "must be a whole number", field=place)
    return int(text)
