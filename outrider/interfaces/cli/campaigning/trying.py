"""`outrider campaign`: what a recipient would get, and a test send to people of one's own."""

from __future__ import annotations

from typing import Annotated

import msgspec
from cyclopts import Parameter

from outrider.data.db import Role
from outrider.domain.campaigns import trying
from outrider.domain.messages.rows import SQL
from outrider.domain.templates import preview as previews
from outrider.interfaces.cli import campaigns
from outrider.interfaces.cli.campaigns import Which
from outrider.interfaces.cli.options import CHANGING, COMMON, Changing, Common
from outrider.interfaces.cli.output import Answer
from outrider.interfaces.cli.previewing import Contact, Part, Values, person_of, told, values_of
from outrider.interfaces.cli.work import note, wired

Variant = Annotated[
    str | None, Parameter(help="The name of a variant, where it compares some; the winner, else the first, without.")
]


async def preview(
    which: Which,
    *,
    variant: Variant = None,
    contact: Contact = None,
    set_: Values = None,
    part: Part = "text",
    options: Common = COMMON,
) -> Answer:
    """Show what a recipient would get and what it costs: made as the worker makes it, sent to nobody.

    Example: `outrider campaign preview spring --variant b --part html`
    """
    async with wired(options) as (runtime, work):
        found = await campaigns.find(work.uow, which)
        person = await person_of(work.uow, contact)
        address = previews.address_of(person, found.channel)
        values = values_of(person, found.channel, address, set_)
        made = await trying.sample(work.uow, runtime.settings, runtime.channels, found, person, values, variant=variant)
    async with wired(options) as (runtime, work):
        seen = await trying.priced(work.uow, made, await trying.rendered(made, runtime.renderer))
    which_one = f"variant {seen.variant} of {', '.join(seen.variants)}\n" if seen.variant else ""
    return Answer(msgspec.to_builtins(seen), which_one + told(seen, address, part))


async def send_trial(
    which: Which,
    to: Annotated[list[str], Parameter(help="Addresses of users of the tenant, or of OUTRIDER_TEST_ADDRESSES.")],
    *,
    variant: Variant = None,
    contact: Contact = None,
    set_: Values = None,
    options: Changing = CHANGING,
) -> Answer:
    """Send what the campaign says to people of your own, marked as a test, through the queue like everything else.

    Example: `outrider campaign test-send spring ann@example.org --variant b`
    """
    async with wired(options, role=Role.ENGINE) as (runtime, work):
        found = await campaigns.find(work.uow, which)
        person = await person_of(work.uow, contact)
        values = values_of(person, found.channel, to[0], set_)
        variables = previews.variables_of(person, "", values, found.channel)
        done = await trying.send(
            work.uow,
            runtime.channels,
            runtime.renderer,
            work.actor,
            found,
            to,
            variables,
            variant=variant,
            allowed=runtime.settings.test_addresses,
        )
        await SQL.tell_ready.run(work.uow.raw)
    what = f" of variant {done.variant}" if done.variant else ""
    text = note(f"{len(done.ids)} test message(s){what} are queued", dry_run=options.dry_run)
    return Answer({"ids": [str(each) for each in done.ids], "variant": done.variant}, text)
