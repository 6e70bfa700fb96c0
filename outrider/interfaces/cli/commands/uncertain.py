"""Uncertain messages: handed over, answer lost. Look at them, send them again, or mark them by hand."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Literal

from cyclopts import App, Parameter

from outrider.data.db import Role
from outrider.domain.messages import uncertain
from outrider.engine.dispatch.reconcile import Reconciler, Told
from outrider.interfaces.cli.confirm import Yes, confirm
from outrider.interfaces.cli.deciding import campaign_of, wanted
from outrider.interfaces.cli.doors import doors
from outrider.interfaces.cli.options import CHANGING, COMMON, Changing, Common, Limit
from outrider.interfaces.cli.output import Answer, table
from outrider.interfaces.cli.progress import progress
from outrider.interfaces.cli.work import actor, changing, looking, note, tenant_of

APP = App(name="uncertain")

Named = Annotated[str, Parameter(help="Their ids, as listed.")]
Everything = Annotated[
    bool, Parameter(name="--all", negative="", help="Every uncertain message of the tenant, or of the campaign.")
]
OfCampaign = Annotated[str | None, Parameter(help="With --all: only those of this campaign, by name or id.")]

_AT_ONCE = 50
_COLUMNS = ("message_id", "since", "address", "cause", "title", "detail", "campaign_id", "attempts")


@APP.command(name="list")
async def list_(*, campaign: str | None = None, limit: Limit = 100, options: Common = COMMON) -> Answer:
    """List them, oldest first.

    Example: `outrider uncertain list --campaign spring`

    Parameters
    ----------
    campaign
        Only those of this campaign, by name or id.
    """
    async with looking(options, role=Role.ENGINE) as work:
        campaign_id = await campaign_of(work, campaign)
        found = await uncertain.listed(work.uow.raw, work.tenant_id, limit=limit, campaign_id=campaign_id)
    rows = [{**row, **_meaning(row["cause"])} for row in found]
    return Answer(rows, table(rows, _COLUMNS, empty="no uncertain messages"))


@APP.command
async def resend(
    *messages: Named,
    all_: Everything = False,
    campaign: OfCampaign = None,
    yes: Yes = False,
    options: Changing = CHANGING,
) -> Answer:
    """Send messages again, with the same bytes and Message-ID. A person may get them twice.

    What belongs to a cancelled campaign stays as it is: nothing of that is sent any more.

    Example: `outrider uncertain resend --all --campaign spring`
    """
    ids = await wanted(options, messages, campaign, uncertain.ids, everything=all_)
    if not options.dry_run:
        confirm(f"{len(ids)} message(s) will be sent again and may arrive twice", "resend", yes=yes)
    async with changing(options, role=Role.ENGINE) as work:
        done = await uncertain.resend(work.uow, work.actor, work.tenant_id, ids, reason=options.reason)
    left = [each for each in ids if each not in set(done)]
    text = f"{len(done)} message(s) are queued again"
    if left:
        text += f"; {len(left)} are not: no longer uncertain, or cancelled with their campaign (mark those)"
    return Answer({"resent": done, "not_resent": left}, note(text, dry_run=options.dry_run))


@APP.command
async def mark(
    state: Literal["sent", "failed"],
    /,
    *messages: Named,
    all_: Everything = False,
    campaign: OfCampaign = None,
    yes: Yes = False,
    options: Changing = CHANGING,
) -> Answer:
    """Settle messages by hand, after looking at the provider's own records.

    Example: `outrider uncertain mark failed ID --reason "not in the provider's log"`

    Parameters
    ----------
    state
        What they became.
    """
    ids = await wanted(options, messages, campaign, uncertain.ids, everything=all_)
    if not options.dry_run and all_:
        confirm(f"{len(ids)} message(s) will be marked {state}", state, yes=yes)
    async with changing(options, role=Role.ENGINE) as work:
        done = await uncertain.mark(work.uow, work.actor, work.tenant_id, ids, state=state, reason=options.reason)
    data = {"marked": done, "state": state, "not_uncertain": [each for each in ids if each not in set(done)]}
    return Answer(data, note(f"{len(done)} message(s) are marked {state}", dry_run=options.dry_run))


@APP.command
async def reconcile(
    *messages: Named,
    all_: Everything = False,
    campaign: OfCampaign = None,
    yes: Yes = False,
    options: Changing = CHANGING,
) -> Answer:
    """Ask the providers now what became of messages: those they have are sent, those none of them has go again.

    Workers ask by themselves, for three days. What went a short while ago, or by a connection that was changed since,
    does not go again by this; what providers cannot say stays for a decision.

    Example: `outrider uncertain reconcile --all`
    """
    ids = await wanted(options, messages, campaign, uncertain.ids, everything=all_)
    if options.dry_run:
        return Answer({"ids": ids}, note(f"the providers are asked about {len(ids)} message(s)", dry_run=True))
    if all_:
        confirm(f"the providers will be asked about {len(ids)} message(s)", "reconcile", yes=yes)
    done = Told()
    async with doors().runtime() as runtime:
        tenant_id, reconciler = await tenant_of(runtime.db, options.tenant), Reconciler(runtime)
        with progress("asking", len(ids)) as advance:
            for at in range(0, len(ids), _AT_ONCE):
                part = ids[at : at + _AT_ONCE]
                done.add(await reconciler.these(tenant_id, part, actor=actor(), reason=options.reason))
                advance(at + len(part))
    text = f"{len(done.sent)} were sent, {len(done.again)} are queued again, {len(done.undecided)} are still uncertain"
    if done.withdrawn:
        text += f", {len(done.withdrawn)} did not go and are cancelled with their campaign"
    return Answer(asdict(done), text)


def _meaning(code: str) -> dict[str, str]:
    cause = uncertain.meaning(code)
    return {"title": cause.title, "why": cause.why, "remedy": cause.remedy}
