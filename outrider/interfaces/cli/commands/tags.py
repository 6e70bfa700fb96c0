"""Tags on contacts: put on, taken off, listed."""

from __future__ import annotations

from typing import Annotated

import msgspec
from cyclopts import App, Parameter

from outrider.base.ids import parse_id
from outrider.domain.contacts import tags
from outrider.interfaces.cli.confirm import Yes, confirm
from outrider.interfaces.cli.options import CHANGING, COMMON, Changing, Common, Limit
from outrider.interfaces.cli.output import Answer, table
from outrider.interfaces.cli.work import changing, looking, note

APP = App(name="tags")
Contacts = Annotated[list[str], Parameter(help="Ids of up to 1,000 contacts.")]


@APP.command
async def add(tag: str, contacts: Contacts, *, options: Changing = CHANGING) -> Answer:
    """Put a tag on contacts.

    Example: `outrider tags add vip ID`
    """
    ids = [parse_id(each, "contacts") for each in contacts]
    async with changing(options) as work:
        done = await tags.add(work.uow, work.actor, ids, [tag])
    return _told(done, "tagged", dry_run=options.dry_run)


@APP.command
async def remove(tag: str, contacts: Contacts, *, options: Changing = CHANGING) -> Answer:
    """Take a tag from contacts.

    Example: `outrider tags remove vip ID`
    """
    ids = [parse_id(each, "contacts") for each in contacts]
    async with changing(options) as work:
        done = await tags.remove(work.uow, work.actor, ids, [tag])
    return _told(done, "untagged", dry_run=options.dry_run)


@APP.command
async def delete(tag: str, *, yes: Yes = False, options: Changing = CHANGING) -> Answer:
    """Take a tag from everybody who has it.

    Example: `outrider tags delete vip`
    """
    if not options.dry_run:
        confirm(f"the tag {tag} will be taken from everybody", "delete", yes=yes)
    async with changing(options) as work:
        count = await tags.delete(work.uow, work.actor, tag)
    return Answer({"contact_count": count}, note(f"taken from {count} contacts", dry_run=options.dry_run))


@APP.command(name="list")
async def list_(*, limit: Limit = 100, after: str = "", options: Common = COMMON) -> Answer:
    """List tags by name with the number of contacts that have them.

    Example: `outrider tags list`

    Parameters
    ----------
    after
        The last tag seen.
    """
    async with looking(options) as work:
        found = await tags.listed(work.uow, limit=limit, after=after)
    rows = [msgspec.to_builtins(each) for each in found]
    return Answer(rows, table(rows, ("tag", "contact_count"), empty="no tags"))


def _told(done: tags.Tagged, word: str, *, dry_run: bool) -> Answer:
    text = f"{word} {done.changed_count}, {done.unchanged_count} were so already, {len(done.unknown)} unknown"
    return Answer(msgspec.to_builtins(done), note(text, dry_run=dry_run))
