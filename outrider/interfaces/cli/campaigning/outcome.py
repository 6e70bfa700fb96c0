"""`outrider campaign`: what was promised and what happened, and sending what failed once more."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from cyclopts import Parameter

from outrider.data.db import Role
from outrider.domain.campaigns import retries
from outrider.domain.campaigns import sheet as sheets
from outrider.domain.campaigns.sheet import Sheet
from outrider.interfaces.cli import campaigns
from outrider.interfaces.cli.campaigns import Which
from outrider.interfaces.cli.confirm import Yes, confirm
from outrider.interfaces.cli.options import CHANGING, COMMON, Changing, Common, between, whole_number
from outrider.interfaces.cli.output import Answer, facts, table
from outrider.interfaces.cli.work import looking, note, wired


async def sheet(which: Which, *, options: Common = COMMON) -> Answer:
    """Show the preflight's promise beside what happened, every difference explained.

    Example: `outrider campaign sheet spring`
    """
    async with looking(options) as work:
        found = await sheets.of_campaign(work.uow, (await campaigns.find(work.uow, which)).id)
    return Answer(msgspec.to_builtins(found), _told(found))


async def retry(
    which: Which,
    *,
    count: Annotated[
        int | None,
        Parameter(
            converter=whole_number,
            validator=between(0, 10**9),
            n_tokens=1,
            help="How many people are due, as a look without it says; refused when it has changed.",
        ),
    ] = None,
    yes: Yes = False,
    options: Changing = CHANGING,
) -> Answer:
    """Send again to those whose message failed by a passing cause; never what was refused, blocked or is uncertain.

    Without --count and --yes it only says how many are due.

    Example: `outrider campaign retry spring --count 120`
    """
    async with wired(options, role=Role.ENGINE) as (runtime, work):
        found = await campaigns.find(work.uow, which)
        due = await retries.due(work.uow, found.id)
        if count is None and not yes:
            return Answer(msgspec.to_builtins(due), _told_due(due))
        if not options.dry_run:
            confirm(f"{found.name} is sent again to {due.count} people", "retry", yes=yes)
        wanted = retries.Retry(due.count if count is None else count, options.reason)
        view = await retries.retry(work.uow, runtime.settings, work.actor, found.id, wanted)
    text = f"campaign {view.name} sends it again to {due.count} people"
    return Answer(campaigns.told(view), note(text, dry_run=options.dry_run))


def _told(found: Sheet) -> str:
    head: dict[str, Any] = {
        "state": found.state + ("" if found.is_final else " (not final)"),
        "launched at": found.launched_at,
        "estimated end": found.estimated_at,
        "finished at": found.finished_at,
        "seconds late": found.late_s,
        "sent by retries": found.retried_count,
    }
    if found.excluded_count is not None:
        head["excluded before"] = campaigns.told_excluded(found.excluded_count, found.excluded_by)
    rows = [
        {
            "row": each.name.replace("_", " "),
            "promised": each.promised,
            "actual": each.actual,
            "difference": each.difference,
            "because": "; ".join(f"{why.count:+d} {why.message}" for why in each.why),
        }
        for each in found.rows
    ]
    columns = ("row", "promised", "actual", "difference", "because")
    return facts(head) + "\n" + table(rows, columns, empty="no preflight was made")


def _told_due(due: retries.Due) -> str:
    head = {
        "people due": due.count,
        "sent again before": due.retried_count,
        "failed for good": due.permanent_count,
        "uncertain (see `outrider uncertain`)": due.uncertain_count,
        "an earlier retry is being queued": due.is_under_way,
    }
    rows = [{"cause": code, "messages": count} for code, count in due.failed.items()]
    return facts(head) + "\n" + table(rows, ("cause", "messages"), empty="nothing failed")
