"""What is noticed: openings and clicks, switched on and off for a tenant, a sender or a campaign."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

import msgspec
from cyclopts import App, Parameter

from outrider.base.errors import Refused
from outrider.data.db import UnitOfWork
from outrider.domain.tracking import choices
from outrider.domain.tracking.choices import Choice, ChoiceChange, Scope
from outrider.interfaces.cli import campaigns
from outrider.interfaces.cli.options import CHANGING, COMMON, Changing, Common
from outrider.interfaces.cli.output import Answer, facts
from outrider.interfaces.cli.work import changing, looking, note

APP = App(name="tracking")

Switch = Literal["on", "off"]
Sender = Annotated[str | None, Parameter(help="Of one sender, by name or id.")]
Campaign = Annotated[str | None, Parameter(help="Of one campaign, by name or id.")]


@APP.command
async def show(*, sender: Sender = None, campaign: Campaign = None, options: Common = COMMON) -> Answer:
    """Show what is noticed: for the whole tenant, or for one sender or campaign. What is off further up stays off.

    Example: `outrider tracking show --campaign spring`
    """
    async with looking(options) as work:
        scope, scope_id = await _place(work.uow, sender, campaign)
        found = await choices.get(work.uow, scope, scope_id)
    return Answer(msgspec.to_builtins(found), _told(scope, found))


@APP.command(name="set")
async def set_(
    *,
    opens: Annotated[Switch | None, Parameter(help="Whether openings are noticed.")] = None,
    clicks: Annotated[Switch | None, Parameter(help="Whether clicks are noticed.")] = None,
    transactional: Annotated[
        Switch | None, Parameter(help="Also messages that are not advertising; for the whole tenant only.")
    ] = None,
    sender: Sender = None,
    campaign: Campaign = None,
    options: Changing = CHANGING,
) -> Answer:
    """Switch openings and clicks on or off. Links in messages sent before go on leading where they lead.

    Example: `outrider tracking set --clicks off --sender shop`
    """
    change = ChoiceChange(*(None if each is None else each == "on" for each in (opens, clicks, transactional)))
    if change == ChoiceChange():
        raise Refused("required", "say what: --opens, --clicks or --transactional with on or off", field="--opens")
    async with changing(options) as work:
        scope, scope_id = await _place(work.uow, sender, campaign)
        found = await choices.choose(work.uow, work.actor, scope, scope_id, change, reason=options.reason)
    return Answer(msgspec.to_builtins(found), note(_told(scope, found), dry_run=options.dry_run))


async def _place(uow: UnitOfWork, sender: str | None, campaign: str | None) -> tuple[Scope, UUID]:
    """The scope that was named."""
    if sender is not None and campaign is not None:
        raise Refused("conflict", "name a sender or a campaign, not both", field="--campaign")
    if sender is not None:
        return "sender", await campaigns.sender_id(uow, sender)
    if campaign is not None:
        return "campaign", (await campaigns.find(uow, campaign)).id
    return "tenant", uow.tenant


def _told(scope: Scope, found: Choice) -> str:
    head = {"of the": scope, "openings": found.opens, "clicks": found.clicks}
    if scope == "tenant":
        head["also transactional messages"] = found.transactional
    return facts(head | {"changed by": found.changed_by or None, "changed at": found.changed_at})
