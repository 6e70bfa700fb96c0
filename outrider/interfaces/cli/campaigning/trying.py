"""`outrider campaign`: what a recipient would get, and a test send to people of one's own."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

import msgspec
from cyclopts import Parameter

from outrider.base.errors import Refused
from outrider.base.ids import parse_id
from outrider.contracts.channel import Identity
from outrider.data.db import Role, UnitOfWork
from outrider.domain.campaigns.views import CampaignView
from outrider.domain.contacts import read as contacts
from outrider.domain.contacts.channels import channel_of
from outrider.domain.contacts.views import ContactView
from outrider.domain.messages import trials
from outrider.domain.messages.rows import SQL
from outrider.domain.senders import senders
from outrider.domain.templates import contents, templates
from outrider.domain.templates import preview as previews
from outrider.interfaces.cli import campaigns
from outrider.interfaces.cli.campaigns import Which
from outrider.interfaces.cli.options import CHANGING, COMMON, Changing, Common
from outrider.interfaces.cli.output import Answer, facts
from outrider.interfaces.cli.work import note, wired

_SAMPLE = "recipient@example.org"
_SAMPLE_NAME = "Sample Recipient"
Values = Annotated[
    list[str] | None,
    Parameter(name="--set", negative="", help="A value as name=text, in place of the contact's; several times."),
]
Contact = Annotated[str | None, Parameter(help="For this contact: its id. Its values are put in.")]


async def preview(
    which: Which,
    *,
    contact: Contact = None,
    set_: Values = None,
    part: Annotated[Literal["text", "html"], Parameter(help="Which part to print.")] = "text",
    options: Common = COMMON,
) -> Answer:
    """Show what a recipient would get: made as the worker makes it, sent to nobody."""
    async with wired(options) as (runtime, work):
        found = await campaigns.find(work.uow, which)
        version, content_id = await _content(work.uow, found)
        content = (await contents.load(work.uow, work.tenant_id, [content_id]))[content_id]
        person = await _contact(work.uow, contact)
        sender = await senders.get(work.uow, found.sender_id)
    own = next((each.address for each in person.addresses if each.channel == found.channel), "") if person else ""
    address = own or _SAMPLE
    item = previews.item_for(
        address,
        previews.variables_of(person, address, _values(person, address, set_)),
        is_bulk=True,
        public_url=sender.public_url or runtime.settings.public_url,
    )
    identity: Identity = previews.identity_of(sender.id, sender.from_address, sender.from_name, sender.postal_address)
    channel = channel_of(runtime.channels, found.channel)
    async with wired(options) as (runtime, _):
        made = await previews.rendered(channel, content, runtime.renderer, item, version, identity)
    head = {"from": made.sender, "to": address, "subject": made.subject, "size bytes": made.size_bytes}
    return Answer(msgspec.to_builtins(made), f"{facts(head)}\n--- {part}\n{getattr(made, part) or '(none)'}")


async def send_trial(
    which: Which,
    to: Annotated[list[str], Parameter(help="Addresses of users of the tenant, or of OUTRIDER_TEST_ADDRESSES.")],
    *,
    contact: Contact = None,
    set_: Values = None,
    options: Changing = CHANGING,
) -> Answer:
    """Send what the campaign says to people of your own, marked as a test, through the queue like everything else."""
    async with wired(options, role=Role.ENGINE) as (runtime, work):
        found = await campaigns.find(work.uow, which)
        if found.template_id is None:
            raise Refused("no_template", "the campaign has no template", field="campaign", status=409)
        sender = await senders.get(work.uow, found.sender_id)
        person = await _contact(work.uow, contact)
        variables = previews.variables_of(person, "", _values(person, to[0], set_))
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


def _values(person: ContactView | None, address: str, given: list[str] | None) -> dict[str, str]:
    """What a template is rendered with beside a contact's values; without a contact, what every recipient has.

    Raises:  Refused(invalid_setting).
    """
    values = {} if person is not None else {"name": _SAMPLE_NAME, "email": address}
    for each in given or ():
        name, sign, text = each.partition("=")
        if not sign or not name:
            raise Refused("invalid_setting", "must be name=text", field="--set")
        values[name] = text
    return values


async def _content(uow: UnitOfWork, found: CampaignView) -> tuple[int, UUID]:
    """Version and content that it says now; a draft without a version says the latest."""
    if found.template_id is None or (found.template_version is not None and found.state != "draft"):
        return found.template_version or 0, found.content_id
    version = await templates.version_of(uow, found.template_id, found.template_version)
    return version.version, version.content_id


async def _contact(uow: UnitOfWork, contact: str | None) -> ContactView | None:
    return await contacts.get(uow, parse_id(contact, "--contact")) if contact is not None else None
