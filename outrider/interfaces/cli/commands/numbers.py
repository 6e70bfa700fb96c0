"""Numbers that senders send from, and what a text comes to before it is sent."""

from __future__ import annotations

from typing import Annotated

import msgspec
from cyclopts import App, Parameter

from outrider.base.errors import Refused
from outrider.base.ids import parse_id
from outrider.domain.contacts.channels import channel_of
from outrider.domain.messages import quotes
from outrider.domain.senders import numbers
from outrider.domain.senders.numbers import NumberView
from outrider.domain.templates.preview import MeasureView
from outrider.interfaces.cli import campaigns
from outrider.interfaces.cli.confirm import Yes, confirm
from outrider.interfaces.cli.options import CHANGING, COMMON, Changing, Common, Limit
from outrider.interfaces.cli.output import Answer, facts, table
from outrider.interfaces.cli.plugged import channels
from outrider.interfaces.cli.previewing import price_facts
from outrider.interfaces.cli.work import Work, changing, looking, note

APP = App(name="numbers")
Price = Annotated[bool, Parameter(negative="--no-price", help="What it costs too, which the database knows.")]
_COLUMNS = ("number", "sender", "is_active", "recipient_count", "id")


@APP.command
async def add(number: str, *, sender: str, options: Changing = CHANGING) -> Answer:
    """Put a number into a sender's pool; everybody keeps hearing from the same one.

    Example: `outrider numbers add +14155550111 --sender texts`

    Parameters
    ----------
    number
        In any form usual in the tenant's country, or a short code.
    sender
        Name or id of the sender.
    """
    async with changing(options) as work:
        sender_id = await campaigns.sender_id(work.uow, sender, field="sender")
        made = await numbers.add(work.uow, channels(), work.actor, sender_id, number)
    return _told(made, f"{made.number} sends for {made.sender}", options)


@APP.command
async def use(number: str, *, options: Changing = CHANGING) -> Answer:
    """Use a number again for what is sent from now on.

    Example: `outrider numbers use +14155550111`
    """
    return await _changed(number, options, is_active=True)


@APP.command
async def rest(number: str, *, options: Changing = CHANGING) -> Answer:
    """Let a number rest: people who heard from it hear from another one.

    Example: `outrider numbers rest +14155550111`
    """
    return await _changed(number, options, is_active=False)


@APP.command
async def remove(number: str, *, yes: Yes = False, options: Changing = CHANGING) -> Answer:
    """Take a number out of its pool; what arrives for it is an unknown number from then on.

    Example: `outrider numbers remove +14155550111`
    """
    if not options.dry_run:
        confirm(f"{number} will be taken out of its pool", "remove", yes=yes)
    async with changing(options) as work:
        found = await _find(work, number)
        await numbers.remove(work.uow, work.actor, found.id)
    return _told(found, f"{found.number} is in no pool any more", options)


@APP.command(name="list")
async def list_(
    *, sender: str | None = None, limit: Limit = 100, after: str | None = None, options: Common = COMMON
) -> Answer:
    """List the numbers of pools in the order they were added.

    Example: `outrider numbers list --sender texts`

    Parameters
    ----------
    sender
        Only those of this sender, by name or id.
    after
        The id of the last number seen.
    """
    last = parse_id(after, "--after") if after else None
    async with looking(options) as work:
        sender_id = await campaigns.sender_id(work.uow, sender, field="sender") if sender else None
        found = await numbers.listed(work.uow, limit=limit, after=last, sender_id=sender_id)
    rows = [msgspec.to_builtins(each) for each in found]
    return Answer(rows, table(rows, _COLUMNS, empty="no numbers: senders send from their own address"))


@APP.command
async def measure(
    text: str,
    *,
    to: str | None = None,
    channel: str = "sms",
    price: Price = True,
    options: Common = COMMON,
) -> Answer:
    """Say in how many parts a text is sent and billed, which characters make it more, and what it costs.

    Example: `outrider numbers measure "Hello “Ann”" --to +61412345678`

    Parameters
    ----------
    text
        The finished text.
    to
        Who would get it, in any form usual in the tenant's country; without it, the price by country.
    """
    known = channel_of(channels(), channel, field="--channel")
    if not price:
        if to is not None:
            raise Refused("invalid_choice", "is for the price: leave it out, or --no-price", field="--to")
        said = msgspec.to_builtins(quotes.size_of(known, text, field="--channel"))
        return Answer(said, facts(said))
    async with looking(options) as work:
        found = await quotes.of_text(work.uow, known, text, to, field="--to", channel_field="--channel")
    size = {name: getattr(found, name) for name in MeasureView.__struct_fields__}
    return Answer(msgspec.to_builtins(found), facts(size | price_facts(found.price)))


async def _find(work: Work, which: str) -> NumberView:
    """A number by itself, its id, or what a person types of it.

    Raises:  Refused(not_found).
    """
    after = None
    while page := await numbers.listed(work.uow, limit=1000, after=after):
        for each in page:
            if which.strip() in {each.number, str(each.id)}:
                return each
        after = page[-1].id
    raise Refused("not_found", "no such number; `outrider numbers list` shows them", field="number", status=404)


async def _changed(number: str, options: Changing, *, is_active: bool) -> Answer:
    async with changing(options) as work:
        found = await _find(work, number)
        made = await numbers.change(work.uow, work.actor, found.id, is_active=is_active)
    return _told(made, f"{made.number} {'is used' if is_active else 'rests'}", options)


def _told(view: NumberView, text: str, options: Changing) -> Answer:
    return Answer(msgspec.to_builtins(view), note(text, dry_run=options.dry_run))
