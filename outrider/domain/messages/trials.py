"""Test sends: a version of a template to people of one's own, through the queue like everything else.

Owns who may get one (the tenant's users, and what an operator allows) and how it is marked: `[Test]` in the subject,
the purpose `test`, no campaign; so it is in no campaign's figures. Never goes to a contact because it is one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from outrider.base.errors import Refused, RefusedMany
from outrider.contracts.actor import Actor
from outrider.contracts.channel import Channel, Renderer
from outrider.data.db import UnitOfWork
from outrider.domain.audit.append import append
from outrider.domain.contacts.channels import channel_of, stored_form
from outrider.domain.messages.admit import LaneKey, NewMessage, admit
from outrider.domain.messages.draft import Draft, check_variables, sender_of
from outrider.domain.messages.rows import SQL
from outrider.domain.templates import contents, templates
from outrider.domain.tenants import users

MOST_ADDRESSES = 10
PURPOSE = "test"
_MARK = "[Test] "


@dataclass(frozen=True, slots=True)
class Trial:
    """What is tried: a version (None: the latest), for whom, from which sender (None: the only one), with what.

    content_id  what is said in the place of the version's own, as of a variant with its own subject
    about       what the audit log says of it beside version and addresses
    """

    template_id: UUID
    version: int | None
    to: Sequence[str]
    sender: str | None = None
    variables: str | None = None
    content_id: UUID | None = None
    about: Mapping[str, str] = field(default_factory=dict)


async def send(
    uow: UnitOfWork,
    channels: Mapping[str, Channel],
    renderer: Renderer,
    actor: Actor,
    trial: Trial,
    *,
    allowed: Sequence[str] = (),
) -> list[UUID]:
    """Queue a test send.

    Takes:   a unit of work of the engine role; allowed: further addresses, or @domains, by the operator's setting.
    Gives:   the ids of the messages, in the order of the addresses.
    Raises:  Refused(not_found, sender_required, unknown_sender, too_many); RefusedMany(not_a_test_address) naming each.
    """
    if not 0 < len(trial.to) <= MOST_ADDRESSES:
        raise Refused("too_many", f"give 1 to {MOST_ADDRESSES} addresses", field="/to")
    template = await templates.get(uow, trial.template_id)
    channel = channel_of(channels, template.channel)
    addresses = await _checked(uow, channel, trial.to, allowed)
    draft = Draft("", "", template.channel, trial.sender, variables=trial.variables)
    check_variables(draft)
    sender_id = sender_of(draft, await SQL.senders_named.many(uow.raw, uow.tenant, None))
    found = await templates.version_of(uow, trial.template_id, trial.version)
    content_id = await _marked(uow, channel, renderer, trial.content_id or found.content_id)
    key = LaneKey(template.channel, sender_id, "transactional", PURPOSE, 0)
    messages = [NewMessage(address, content_id, trial.variables) for address in addresses]
    ids = await admit(uow, uow.tenant, key, messages)
    details = {"version": found.version, "addresses": len(addresses), **trial.about}
    target = ("template", str(trial.template_id))
    await append(uow, actor, action="template.test_send", target=target, details=details)
    return ids


async def _checked(uow: UnitOfWork, channel: Channel, to: Sequence[str], allowed: Sequence[str]) -> list[str]:
    """The addresses in their stored form, each once.

    Raises:  RefusedMany naming each that is not one's own.
    """
    own = {each.lower() for each in allowed}
    found: list[str] = []
    errors: list[Refused] = []
    for at, text in enumerate(to):
        try:
            address = await stored_form(uow.raw, uow.tenant, channel, text, field=f"/to/{at}")
        except Refused as error:
            errors.append(error)
            continue
        if not (address in own or f"@{address.rpartition('@')[2]}" in own or await _is_user(uow, address)):
            detail = "test sends go to the tenant's users and to OUTRIDER_TEST_ADDRESSES"
            errors.append(Refused("not_a_test_address", detail, field=f"/to/{at}"))
        found.append(address)
    if errors:
        raise RefusedMany(errors)
    return list(dict.fromkeys(found))


async def _is_user(uow: UnitOfWork, address: str) -> bool:
    try:
        user = await users.find(uow, address)
    except Refused:
        return False
    return user.is_active and user.email == address.lower()


async def _marked(uow: UnitOfWork, channel: Channel, renderer: Renderer, content_id: UUID) -> UUID:
    """The same content with the mark in its subject, where the channel has one; retention takes it away again."""
    content = (await contents.load(uow, uow.tenant, [content_id]))[content_id]
    return await contents.save(
        uow,
        channel,
        renderer,
        subject=f"{_MARK}{content.subject}" if content.subject else "",
        html=content.html,
        text=content.text,
        preheader=content.preheader,
        attachments=content.attachments,
        is_template=content.is_template,
    )
