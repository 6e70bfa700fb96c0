"""Results of a campaign: who opened and clicked, by hour, link, domain and content; machines apart from people."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec
from cyclopts import App, Parameter

from outrider.data.db import UnitOfWork
from outrider.domain.tracking import results
from outrider.interfaces.cli import campaigns
from outrider.interfaces.cli.options import COMMON, Common, Limit
from outrider.interfaces.cli.output import Answer, facts, table
from outrider.interfaces.cli.work import looking

APP = App(name="results", help_epilogue="Example: `outrider results spring --by link`")

_EVER = datetime(1970, 1, 1, tzinfo=UTC)
_NEVER = datetime(9999, 1, 1, tzinfo=UTC)
By = Literal["hour", "link", "domain", "content"]


@APP.default
async def results_(
    campaign: str,
    *,
    by: Annotated[By | None, Parameter(help="Break down by hour, link, domain or content.")] = None,
    limit: Limit = 100,
    options: Common = COMMON,
) -> Answer:
    """Show who opened and clicked. People are counted once per message; machines stand beside them.

    Parameters
    ----------
    campaign
        The campaign's name or id.
    """
    async with looking(options) as work:
        identifier = (await campaigns.find(work.uow, campaign)).id
        if by is None:
            found = await results.of_campaign(work.uow, identifier)
            return Answer(msgspec.to_builtins(found), _told(found))
        rows = [msgspec.structs.asdict(each) for each in await _rows(work.uow, identifier, by, limit)]
    columns = [name for name in rows[0] if name != "key"] if rows else []
    return Answer(msgspec.to_builtins(rows), table(rows, columns, empty="nothing noticed yet"))


async def _rows(uow: UnitOfWork, identifier: Any, by: By, limit: int) -> list[Any]:
    match by:
        case "hour":
            return list(await results.by_hour(uow, identifier, after=_EVER, before=_NEVER, limit=limit))
        case "link":
            return list(await results.by_link(uow, identifier, limit=limit))
        case "domain":
            return list(await results.by_domain(uow, identifier, limit=limit))
        case "content":
            return list(await results.by_content(uow, identifier))


def _told(found: results.Results) -> str:
    head = {
        "sent": found.sent_count,
        "opened by people": f"{found.opens.people} ({found.open_rate:.1%}), {found.opens.hits} times",
        "clicked by people": f"{found.clicks.people} ({found.click_rate:.1%}), {found.clicks.hits} times",
        "opened by machines": f"{found.opens.machines}, {found.opens.machine_hits} times",
        "clicked by machines": f"{found.clicks.machines}, {found.clicks.machine_hits} times",
    }
    return facts(head)
