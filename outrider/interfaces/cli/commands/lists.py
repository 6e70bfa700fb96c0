"""Lists: named sets of contacts that campaigns are sent to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated
from uuid import UUID

import msgspec
from cyclopts import App, Parameter

from outrider.base.ids import parse_id
from outrider.contracts.actor import Actor
from outrider.data.db import UnitOfWork
from outrider.domain.contacts import lists, offers, read
from outrider.domain.contacts.lists import MembersChanged
from outrider.domain.contacts.offers import OfferIn
from outrider.domain.contacts.views import ListView
from outrider.interfaces.cli import named
from outrider.interfaces.cli.confirm import Yes, confirm
from outrider.interfaces.cli.options import CHANGING, COMMON, Changing, Common, Limit
from outrider.interfaces.cli.output import Answer, table
from outrider.interfaces.cli.work import changing, looking, note

APP = App(name="lists")
Which = Annotated[str, Parameter(help="The list's exact name or id.")]
Who = Annotated[str, Parameter(help="Addresses in any form, or ids of contacts.")]
Change = Callable[[UnitOfWork, Actor, UUID, Sequence[UUID]], Awaitable[MembersChanged]]


@APP.command
async def create(name: str, *, options: Changing = CHANGING) -> Answer:
    """Make an empty list; `outrider contacts import --list NAME` fills it.

    Example: `outrider lists create news`
    """
    async with changing(options) as work:
        made = await lists.create(work.uow, work.actor, name)
    return Answer(msgspec.to_builtins(made), note(f"made list {made.name} ({made.id})", dry_run=options.dry_run))


@APP.command(name="list")
async def list_(*, limit: Limit = 100, options: Common = COMMON) -> Answer:
    """List them with the number of contacts on each.

    Example: `outrider lists list`
    """
    async with looking(options) as work:
        found = await lists.listed(work.uow, limit=limit)
    rows = [msgspec.to_builtins(each) for each in found]
    return Answer(rows, table(rows, ("id", "name", "member_count", "created_at"), empty="no lists"))


@APP.command
async def members(
    which: Which,
    *,
    limit: Limit = 100,
    after: Annotated[str | None, Parameter(help="The id of the last contact seen.")] = None,
    options: Common = COMMON,
) -> Answer:
    """List who is on a list.

    Example: `outrider lists members news --limit 20`
    """
    async with looking(options) as work:
        found = await _find(work.uow, which)
        last = parse_id(after, "--after") if after else None
        people = await lists.members(work.uow, found.id, limit=limit, after=last)
        contacts = {each.id: each for each in await read.by_ids(work.uow, [each.contact_id for each in people])}
    rows = [msgspec.to_builtins(each) for each in people]
    shown = [
        {**row, "name": one.name, "address": ", ".join(each.address for each in one.addresses)}
        for row, member in zip(rows, people, strict=True)
        if (one := contacts.get(member.contact_id))  # erased a moment ago: neither is it on the list any more
    ]
    return Answer(rows, table(shown, ("contact_id", "name", "address", "added_at"), empty="nobody is on it"))


@APP.command
async def rename(which: Which, name: str, *, options: Changing = CHANGING) -> Answer:
    """Give a list another name.

    Example: `outrider lists rename news "weekly news"`

    Parameters
    ----------
    name
        Its new name.
    """
    async with changing(options) as work:
        found = await _find(work.uow, which)
        made = await lists.rename(work.uow, work.actor, found.id, name)
    text = f"list {found.name} is called {made.name}"
    return Answer(msgspec.to_builtins(made), note(text, dry_run=options.dry_run))


@APP.command
async def delete(which: Which, *, yes: Yes = False, options: Changing = CHANGING) -> Answer:
    """Delete a list that no campaign names; who is on it stays a contact.

    Example: `outrider lists delete news`
    """
    if not options.dry_run:
        confirm(f"list {which} will be gone; its contacts stay", "delete", yes=yes)
    async with changing(options) as work:
        found = await _find(work.uow, which)
        await lists.delete(work.uow, work.actor, found.id)
    return Answer({"id": str(found.id)}, note(f"list {found.name} is deleted", dry_run=options.dry_run))


@APP.command
async def add(which: Which, *who: Who, options: Changing = CHANGING) -> Answer:
    """Put contacts on a list; whoever turned it off stays off.

    Example: `outrider lists add news ann@example.org bob@example.org`
    """
    return await _members(which, who, options, lists.add_members, "are on")


@APP.command
async def remove(which: Which, *who: Who, options: Changing = CHANGING) -> Answer:
    """Take contacts off a list; what a campaign has queued for them already is not withdrawn.

    Example: `outrider lists remove news ann@example.org`
    """
    return await _members(which, who, options, lists.remove_members, "are off")


@APP.command
async def offer(
    which: Which, *, title: str, description: str = "", place: int = 0, options: Changing = CHANGING
) -> Answer:
    """Offer a list publicly: people turn it on and off in the preference centre, and forms may name it.

    Example: `outrider lists offer news --title "Weekly news" --description "What grows and what blooms."`

    Parameters
    ----------
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
async def withdraw(which: Which, *, options: Changing = CHANGING) -> Answer:
    """Offer a list no more: it leaves the preference centre and every form; who is on it stays.

    Example: `outrider lists withdraw news`
    """
    async with changing(options) as work:
        found = await _find(work.uow, which)
        await offers.withdraw(work.uow, work.actor, found.id)
    return Answer({"list_id": str(found.id)}, note(f"list {found.name} is on offer no more", dry_run=options.dry_run))


@APP.command(name="offers")
async def offers_(*, options: Common = COMMON) -> Answer:
    """List the lists on offer in the order in which people see them.

    Example: `outrider lists offers`
    """
    async with looking(options) as work:
        found = await offers.listed(work.uow)
    rows = [msgspec.to_builtins(each) for each in found]
    return Answer(rows, table(rows, ("list_id", "name", "title", "place"), empty="no list is on offer"))


async def _members(which: str, who: tuple[str, ...], options: Changing, change: Change, done: str) -> Answer:
    async with changing(options) as work:
        found = await _find(work.uow, which)
        people = [(await named.contact(work.uow, each, None)).id for each in who]
        made = await change(work.uow, work.actor, found.id, people)
    off = f"; {made.turned_off_count} turned it off and stay off" if made.turned_off_count else ""
    text = f"{made.changed_count} {done} list {found.name}, {made.unchanged_count} were already{off}"
    return Answer(msgspec.to_builtins(made), note(text, dry_run=options.dry_run))


async def _find(uow: UnitOfWork, which: str) -> ListView:
    return await named.find(
        which, "list", lambda last, limit: lists.listed(uow, limit=limit, after=last), field="which"
    )
