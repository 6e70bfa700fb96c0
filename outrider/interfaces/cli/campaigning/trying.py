"""`outrider campaign`: what a recipient would get, and a test send to people of one's own."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import msgspec
from cyclopts import Parameter

from outrider.base.errors import Refused
from outrider.data.db import Role, UnitOfWork
from outrider.domain.campaigns.views import CampaignView
from outrider.domain.contacts.channels import channel_of
from outrider.domain.messages import trials
from outrider.domain.messages.rows import SQL
from outrider.domain.senders import senders
from outrider.domain.senders.shown import identity_of
from outrider.domain.templates import contents, templates
from outrider.domain.templates import preview as previews
from outrider.interfaces.cli import campaigns
from outrider.interfaces.cli.campaigns import Which
from outrider.interfaces.cli.options import CHANGING, COMMON, Changing, Common
from outrider.interfaces.cli.output import Answer
from outrider.interfaces.cli.previewing import Contact, Part, Values, person_of, told, values_of
from outrider.interfaces.cli.work import note, wired


async def preview(
    which: Which,
    *,
    contact: Contact = None,
    set_: Values = None,
    part: Part = "text",
    options: Common = COMMON,
) -> Answer:
    """Show what a recipient would get: made as the worker makes it, sent to nobody.

    Example: `outrider campaign preview spring --part html`
    """
    async with wired(options) as (runtime, work):
        found = await campaigns.find(work.uow, which)
        version, content_id = await _content(work.uow, found)
        content = (await contents.load(work.uow, work.tenant_id, [content_id]))[content_id]
        person = await person_of(work.uow, contact)
        sender = await senders.get(work.uow, found.sender_id)
        identity = await identity_of(work.uow, sender)
    address = previews.address_of(person, found.channel)
    values = values_of(person, found.channel, address, set_)
    item = previews.item_for(
        address,
        previews.variables_of(person, address, values, found.channel),
        is_bulk=True,
        public_url=sender.public_url or runtime.settings.public_url,
    )
    channel = channel_of(runtime.channels, found.channel)
    async with wired(options) as (runtime, _):
        made = await previews.rendered(channel, content, runtime.renderer, item, version, identity)
    return Answer(msgspec.to_builtins(made), told(made, address, part))


async def send_trial(
    which: Which,
    to: Annotated[list[str], Parameter(help="Addresses of users of the tenant, or of OUTRIDER_TEST_ADDRESSES.")],
    *,
    contact: Contact = None,
    set_: Values = None,
    options: Changing = CHANGING,
) -> Answer:
    """Send what the campaign says to people of your own, marked as a test, through the queue like everything else.

    Example: `outrider campaign test-send spring ann@example.org`
    """
    async with wired(options, role=Role.ENGINE) as (runtime, work):
        found = await campaigns.find(work.uow, which)
        if found.template_id is None:
            raise Refused("no_template", "the campaign has no template", field="campaign", status=409)
        sender = await senders.get(work.uow, found.sender_id)
        person = await person_of(work.uow, contact)
        values = values_of(person, found.channel, to[0], set_)
        variables = previews.variables_of(person, "", values, found.channel)
        trial = trials.Trial(found.template_id, found.template_version, to, sender.name, variables)
        ids = await trials.send(
            work.uow,
            runtime.channels,
            runtime.renderer,
            work.actor,
            trial,
            allowed=runtime.settings.test_addresses,
        )
        await SQL.tell_ready.run(work.uow.raw)
    text = note(f"{len(ids)} test message(s) are queued", dry_run=options.dry_run)
    return Answer({"ids": [str(each) for each in ids]}, text)


async def _content(uow: UnitOfWork, found: CampaignView) -> tuple[int, UUID]:
    """Version and content that it says now; a draft without a version says the latest."""
    if found.template_id is None or (found.template_version is not None and found.state != "draft"):
        return found.template_version or 0, found.content_id
    version = await templates.version_of(uow, found.template_id, found.template_version)
    return version.version, version.content_id
