"""Poison messages: set aside because workers died over them. Look at them; queue them again when that is mended."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

from outrider.data.db import Role
from outrider.domain.messages import poison
from outrider.domain.messages.rows import SQL
from outrider.interfaces.cli.confirm import Yes, confirm
from outrider.interfaces.cli.deciding import campaign_of, wanted
from outrider.interfaces.cli.options import CHANGING, COMMON, Changing, Common, Limit
from outrider.interfaces.cli.output import Answer, table
from outrider.interfaces.cli.work import changing, looking, note

APP = App(name="poison")

_COLUMNS = ("message_id", "since", "address", "channel", "campaign_id", "attempts", "detail")


@APP.command(name="list")
async def list_(*, campaign: str | None = None, limit: Limit = 100, options: Common = COMMON) -> Answer:
    """List messages over which workers died three times, oldest first.

    Those whose bytes may have left are not among them: see `outrider uncertain list`.

    Example: `outrider poison list --campaign spring`

    Parameters
    ----------
    campaign
        Only those of this campaign, by name or id.
    """
    async with looking(options, role=Role.ENGINE) as work:
        campaign_id = await campaign_of(work, campaign)
        found = await poison.listed(work.uow.raw, work.tenant_id, limit=limit, campaign_id=campaign_id)
    rows = [dict(row) for row in found]
    return Answer(rows, table(rows, _COLUMNS, empty="no poison messages"))


@APP.command
async def requeue(
    *messages: Annotated[str, Parameter(help="Their ids, as listed.")],
    all_: Annotated[
        bool, Parameter(name="--all", negative="", help="Every poison message of the tenant, or of the campaign.")
    ] = False,
    campaign: Annotated[str | None, Parameter(help="With --all: only those of this campaign, by name or id.")] = None,
    yes: Yes = False,
    options: Changing = CHANGING,
) -> Answer:
    """Queue messages once more, each alone; one more death of a worker sets a message aside again.

    Example: `outrider poison requeue --all --reason "the renderer is mended"`
    """
    ids = await wanted(options, messages, campaign, poison.ids, everything=all_)
    if not options.dry_run:
        what = f"{len(ids)} message(s) over which workers died will be queued again; each may cost one more worker"
        confirm(what, "requeue", yes=yes)
    async with changing(options, role=Role.ENGINE) as work:
        done = await poison.requeue(work.uow, work.actor, work.tenant_id, ids, reason=options.reason)
        if done:
            await SQL.tell_ready.run(work.uow.raw)
    data = {"requeued": done, "not_poison": [each for each in ids if each not in set(done)]}
    return Answer(data, note(f"{len(done)} message(s) are queued again", dry_run=options.dry_run))
