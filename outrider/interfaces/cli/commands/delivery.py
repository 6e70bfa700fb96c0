"""How campaigns go out: at local hours, evenly, with a canary or an A/B test; and what people decide meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import App, Parameter

from outrider.base.errors import Refused
from outrider.domain.campaigns import going_out, pacing, shown, variants, waves
from outrider.domain.campaigns.delivery import Delivery
from outrider.domain.limits import switches
from outrider.interfaces.cli import campaigns, deliveries
from outrider.interfaces.cli.commands import template as templates
from outrider.interfaces.cli.confirm import Yes, confirm
from outrider.interfaces.cli.deliveries import COMPARED, FIRST, HOUR, PACE, Compared, First, Hour, Pace
from outrider.interfaces.cli.doors import doors
from outrider.interfaces.cli.options import CHANGING, COMMON, Changing, Common
from outrider.interfaces.cli.output import Answer, table
from outrider.interfaces.cli.work import changing, looking, note, tenant_of, wired, within

APP = App(name="delivery")

Which = Annotated[str, Parameter(help="The campaign's name or id.")]
_RESULTS = ("variant", "share", "sent", "opened", "clicked", "open_rate", "click_rate", "winner")


@APP.command
async def show(which: Which, *, options: Common = COMMON) -> Answer:
    """Show how a campaign goes out, and how far its waves are.

    Example: `outrider delivery show spring`
    """
    async with looking(options) as work:
        found = await shown.shown(work.uow, (await campaigns.find(work.uow, which)).id)
    return Answer(msgspec.to_builtins(found), deliveries.told(found))


@APP.command(name="set")
async def set_(
    which: Which,
    *,
    file: Annotated[Path | None, Parameter(help="JSON that says all of it, in place of other options.")] = None,
    hour: Hour = HOUR,
    pace: Pace = PACE,
    first: First = FIRST,
    compared: Compared = COMPARED,
    options: Changing = CHANGING,
) -> Answer:
    """Say of a draft how it goes out, in place of what was said before. Without options: at once, to all.

    Example: `outrider delivery set spring --at 2027-03-20T09:00 --canary 1`
    """
    if file is not None and (hour, pace, first, compared) != (HOUR, PACE, FIRST, COMPARED):
        raise Refused("cannot_combine", "the file says all of it: no other options beside it", field="--file")
    async with wired(options) as (runtime, work):
        found = await campaigns.find(work.uow, which)
        template_ids = {
            name: str((await templates.find(work.uow, template)).id) for name, template in compared.templates().items()
        }
        said = {**hour.said(), **first.said(), **compared.said(template_ids), "pacing": pace.pacing()}
        wanted = deliveries.read(file) if file is not None else deliveries.converted(said, Delivery)
        view = await going_out.keep(work.uow, runtime.channels, runtime.renderer, work.actor, found.id, wanted)
    text = note(f"how {found.name} goes out is set", dry_run=options.dry_run)
    return Answer(msgspec.to_builtins(view), f"{text}\n{deliveries.told(view)}")


@APP.command
async def go_on(which: Which, *, yes: Yes = False, options: Changing = CHANGING) -> Answer:
    """Let the rest go before anybody looked, or although the canary stopped it.

    Example: `outrider delivery go-on spring --reason "looks right"`
    """
    if not options.dry_run:
        confirm(f"the rest of campaign {which} will be sent", "go on", yes=yes)
    async with changing(options) as work:
        found = await campaigns.find(work.uow, which)
        await waves.go_on(work.uow, work.actor, found.id, reason=options.reason)
        view = await shown.shown(work.uow, found.id)
    return Answer(msgspec.to_builtins(view), note(f"campaign {found.name} goes on", dry_run=options.dry_run))


@APP.command
async def stop(which: Which, *, options: Changing = CHANGING) -> Answer:
    """Stop a campaign before its next wave; returns when no claim begun before is still open.

    Example: `outrider delivery stop spring --reason "wrong link"`
    """
    async with doors().database() as db:
        tenant_id = await tenant_of(db, options.tenant)
        async with within(db, tenant_id, dry_run=options.dry_run, reason=options.reason) as work:
            found = await campaigns.find(work.uow, which)
            await waves.stop(work.uow, work.actor, found.id, reason=options.reason)
            view = await shown.shown(work.uow, found.id)
        if not options.dry_run:
            await switches.settle(db, "campaign", tenant_id, str(found.id))
    return Answer(msgspec.to_builtins(view), note(f"campaign {found.name} is stopped", dry_run=options.dry_run))


@APP.command
async def winner(which: Which, variant: str, *, yes: Yes = False, options: Changing = CHANGING) -> Answer:
    """Choose the variant that the rest gets; once chosen, it stays.

    Example: `outrider delivery winner spring B`

    Parameters
    ----------
    variant
        The variant's name.
    """
    if not options.dry_run:
        confirm(f"the rest of campaign {which} will get variant {variant}", "choose it", yes=yes)
    async with changing(options) as work:
        found = await campaigns.find(work.uow, which)
        await waves.choose(work.uow, work.actor, found.id, variant, reason=options.reason)
        view = await shown.shown(work.uow, found.id)
    text = note(f"the rest of {found.name} gets {variant}", dry_run=options.dry_run)
    return Answer(msgspec.to_builtins(view), text)


@APP.command
async def pace(which: Which, *, pace: Pace = PACE, options: Changing = CHANGING) -> Answer:
    """Change the pace of a campaign that was launched; without one: as fast as sender and tenant allow.

    Spread over hours means what is left, from now on.

    Example: `outrider delivery pace spring --per-minute 600`
    """
    wanted = pacing.PaceChange(pace.pacing(), options.reason)
    async with changing(options) as work:
        found = await campaigns.find(work.uow, which)
        rate = await pacing.change(work.uow, work.actor, found.id, wanted)
    text = f"campaign {found.name} goes at {rate:g} messages a second at most" if rate else f"{found.name} has no pace"
    return Answer({"id": str(found.id), "pace_per_s": rate}, note(text, dry_run=options.dry_run))


@APP.command
async def results(which: Which, *, options: Common = COMMON) -> Answer:
    """Show how the variants of a campaign fared: people, machines apart.

    Example: `outrider delivery results spring`
    """
    async with looking(options) as work:
        fared = await variants.fared(work.uow, (await campaigns.find(work.uow, which)).id)
    rows = [
        {
            "variant": each.name,
            "share": f"{each.share_percent:g} %",
            "sent": each.sent_count,
            "opened": each.opened_count,
            "clicked": each.clicked_count,
            "open_rate": each.open_rate,
            "click_rate": each.click_rate,
            "winner": "yes" if each.is_winner else "",
        }
        for each in fared
    ]
    return Answer(msgspec.to_builtins(fared), table(rows, _RESULTS, empty="it compares nothing"))
