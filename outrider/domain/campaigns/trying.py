"""A campaign before it is sent: what a recipient would get, and a test send; of one variant where it compares some.

Owns for whom and from whom it is made; how a message is made is templates/preview, who may get a test messages/trials.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import msgspec

from outrider.base.errors import Refused
from outrider.base.settings import Settings
from outrider.contracts.actor import Actor
from outrider.contracts.channel import Channel, Content, Identity, Item, Renderer
from outrider.data.db import UnitOfWork
from outrider.domain.campaigns import content
from outrider.domain.campaigns.views import CampaignView
from outrider.domain.contacts.channels import channel_of
from outrider.domain.contacts.views import ContactView
from outrider.domain.messages import quotes, trials
from outrider.domain.messages.quotes import PricedPreview
from outrider.domain.senders import senders
from outrider.domain.senders.shown import identity_of
from outrider.domain.templates import preview


class CampaignPreview(PricedPreview, frozen=True, kw_only=True):
    """What a recipient would get, and its price; `variant` says which of `variants`, null where nothing is compared."""

    variant: str | None
    variants: list[str]


class Tried(msgspec.Struct, frozen=True):
    """The messages that were queued, in the order of the addresses, and which variant they are."""

    ids: list[UUID]
    variant: str | None


@dataclass(frozen=True, slots=True)
class Sample:
    """Everything that `rendered` needs, so that no transaction is open meanwhile.

    own_address  the contact's; None: nobody in particular would get it
    """

    channel: Channel
    content: Content
    item: Item
    identity: Identity
    version: int
    own_address: str | None
    variant: str | None
    variants: list[str]


async def sample(
    uow: UnitOfWork,
    settings: Settings,
    channels: Mapping[str, Channel],
    campaign: CampaignView,
    contact: ContactView | None,
    given: Mapping[str, Any],
    *,
    variant: str | None = None,
) -> Sample:
    """What one recipient would get: a contact with their values, and those given on top; else a sample recipient.

    Takes:   variant  its name; without one the winner, else the first
    Raises:  Refused(no_variants, unknown_variant) naming /variant.
    """
    said = await content.said_as(uow, campaign, variant)
    ((_, what),) = await content.loaded(uow, [said])
    sender = await senders.get(uow, campaign.sender_id)
    address = preview.address_of(contact, said.channel)
    variables = preview.variables_of(contact, address, given, said.channel)
    public_url = sender.public_url or settings.public_url
    names = [each.variant for each in await content.all_said(uow, campaign) if each.variant is not None]
    return Sample(
        channel=channel_of(channels, said.channel),
        content=what,
        item=preview.item_for(address, variables, is_bulk=True, public_url=public_url),
        identity=await identity_of(uow, sender),
        version=said.version or 0,
        own_address=preview.own_address(contact, said.channel),
        variant=said.variant,
        variants=names,
    )


async def rendered(made: Sample, renderer: Renderer) -> preview.Preview:
    """The message as it would be read.

    Raises:  Refused(render_failed) with what is missing; Unavailable when the renderer has no child process.
    """
    return await preview.rendered(made.channel, made.content, renderer, made.item, made.version, made.identity)


async def priced(uow: UnitOfWork, made: Sample, seen: preview.Preview) -> CampaignPreview:
    """A rendered sample with its price, and which variant it is."""
    whole = await quotes.of_preview(uow, made.channel.key, seen, made.own_address)
    return CampaignPreview(**msgspec.structs.asdict(whole), variant=made.variant, variants=made.variants)


async def send(
    uow: UnitOfWork,
    channels: Mapping[str, Channel],
    renderer: Renderer,
    actor: Actor,
    campaign: CampaignView,
    to: Sequence[str],
    variables: str,
    *,
    variant: str | None = None,
    allowed: Sequence[str] = (),
) -> Tried:
    """Queue what a campaign, or a variant, says for people of one's own, marked as a test. Audited.

    Takes:   a unit of work of the engine role; variables as JSON text; variant as in `sample`.
    Raises:  Refused(no_template, 409; no_variants, unknown_variant naming /variant) and what `trials.send` raises.
    """
    said = await content.said_as(uow, campaign, variant)
    if said.template_id is None:
        raise Refused("no_template", "the campaign has no template", field="/id", status=409)
    sender = await senders.get(uow, campaign.sender_id)
    about = {"campaign": str(campaign.id), **({"variant": said.variant} if said.variant else {})}
    trial = trials.Trial(said.template_id, said.version, to, sender.name, variables, said.content_id, about)
    ids = await trials.send(uow, channels, renderer, actor, trial, allowed=allowed)
    return Tried(ids, said.variant)
