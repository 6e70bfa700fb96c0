"""Lists: named sets of contacts that campaigns are sent to."""

from __future__ import annotations

import msgspec
from cyclopts import App

from outrider.data.db import UnitOfWork
from outrider.domain.contacts import lists, offers
from outrider.domain.contacts.offers import OfferIn
from outrider.domain.contacts.views import ListView
from outrider.interfaces.cli import named
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


@APP.command
async def offer(
    which: str, *, title: str, description: str = "", place: int = 0, options: Changing = CHANGING
) -> Answer:
    """Offer a list publicly: people turn it on and off in the preference centre, and forms may name it.

    Parameters
    ----------
    which
        Its exact name or id.
    title
        What people read as its name.
    description
        What people read below the title.
    place
        Lists with a lower one stand first.
    """
    async with changing(options) as work:
        found = await _find(work.uow, which)
        made = await offers.offer(work.uow, work.actor, found.id, OfferIn(title, description, place))
    text = f"list {found.name} is on offer as {made.title!r}"
    return Answer(msgspec.to_builtins(made), note(text, dry_run=options.dry_run))


@APP.command
async def withdraw(which: str, *, options: Changing = CHANGING) -> Answer:
    """Offer a list no more: it leaves the preference centre and every form; who is on it stays.

    Parameters
    ----------
    which
        Its exact name or id.
    """
    async with changing(options) as work:
        found = await _find(work.uow, which)
        await offers.withdraw(work.uow, work.actor, found.id)
    return Answer({"list_id": str(found.id)}, note(f"list {found.name} is on offer no more", dry_run=options.dry_run))


@APP.command(name="offers")
async def offers_(*, options: Common = COMMON) -> Answer:
    """List the lists on offer in the order in which people see them."""
    async with looking(options) as work:
        found = await offers.listed(work.uow)
    rows = [msgspec.to_builtins(each) for each in found]
    return Answer(rows, table(rows, ("list_id", "name", "title", "place"), empty="no list is on offer"))


async def _find(uow: UnitOfWork, which: str) -> ListView:
    return await named.find(
        which, "list", lambda last, limit: lists.listed(uow, limit=limit, after=last), field="which"
    )
