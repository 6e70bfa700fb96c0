"""Lists: named sets of contacts that campaigns are sent to."""

from __future__ import annotations

import msgspec
from cyclopts import App

from outrider.domain.contacts import lists
from outrider.interfaces.cli.options import CHANGING, COMMON, Changing, Common, Limit
from outrider.interfaces.cli.output import Answer, table
from outrider.interfaces.cli.work import changing, looking, note

APP = App(name="lists")


@APP.command
async def create(name: str, *, options: Changing = CHANGING) -> Answer:
    """Make an empty list; `outrider contacts import --list NAME` fills it."""
    async with changing(options) as work:
        made = await lists.create(work.uow, work.actor, name)
    return Answer(msgspec.to_builtins(made), note(f"made list {made.name} ({made.id})", dry_run=options.dry_run))


@APP.command(name="list")
async def list_(*, limit: Limit = 100, options: Common = COMMON) -> Answer:
    """List them with the number of contacts on each."""
    async with looking(options) as work:
        found = await lists.listed(work.uow, limit=limit)
    rows = [msgspec.to_builtins(each) for each in found]
    return Answer(rows, table(rows, ("id", "name", "member_count", "created_at"), empty="no lists"))
