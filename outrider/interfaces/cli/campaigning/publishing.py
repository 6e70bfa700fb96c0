"""`outrider campaign`: a public page for what a campaign says, its address, and taking it away again."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from cyclopts import Parameter

from outrider.data.runtime import Runtime
from outrider.domain.tracking import web_versions
from outrider.domain.tracking.web_versions import Published
from outrider.interfaces.cli import campaigns
from outrider.interfaces.cli.campaigns import Which
from outrider.interfaces.cli.options import CHANGING, COMMON, Changing, Common
from outrider.interfaces.cli.output import Answer, facts
from outrider.interfaces.cli.previewing import pairs_of
from outrider.interfaces.cli.work import Work, changing, note, wired

Values = Annotated[
    list[str] | None,
    Parameter(name="--set", negative="", help="What stands for a recipient's value, as name=text; several times."),
]


async def publish(which: Which, *, set_: Values = None, options: Changing = CHANGING) -> Answer:
    """Give a launched campaign a public page, or other values to the one it has; its address stays.

    Example: `outrider campaign publish spring --set name=friend`
    """
    async with wired(options) as (runtime, work):
        found = await campaigns.find(work.uow, which)
        made = await web_versions.publish(work.uow, work.actor, found.id, dict(pairs_of(set_)))
        data = _told(runtime, work, made)
    return Answer(data, note(f"campaign {found.name} is published at {data['url']}", dry_run=options.dry_run))


async def web_version(which: Which, *, options: Common = COMMON) -> Answer:
    """Show the address of a campaign's public page; whoever has it may read it, nobody finds it.

    Example: `outrider campaign web-version spring`
    """
    async with wired(options) as (runtime, work):
        found = await campaigns.find(work.uow, which)
        data = _told(runtime, work, await web_versions.get(work.uow, found.id))
    return Answer(data, facts(data | {"variables": ", ".join(sorted(data["variables"])) or None}))


async def unpublish(which: Which, *, options: Changing = CHANGING) -> Answer:
    """Take a campaign's public page away; its address never leads anywhere again.

    Example: `outrider campaign unpublish spring`
    """
    async with changing(options) as work:
        found = await campaigns.find(work.uow, which)
        await web_versions.withdraw(work.uow, work.actor, found.id)
    text = f"campaign {found.name} is not published any more"
    return Answer({"campaign_id": str(found.id)}, note(text, dry_run=options.dry_run))


def _told(runtime: Runtime, work: Work, found: Published) -> dict[str, Any]:
    signer = web_versions.signer_of(runtime.keyring)
    url = web_versions.url_of(signer, runtime.settings.public_url, work.tenant_id, found)
    facts_: dict[str, Any] = msgspec.to_builtins(found)
    del facts_["code"]  # it belongs to the address, where it is
    return {"url": url, **facts_}
