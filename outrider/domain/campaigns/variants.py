"""Variants of a campaign: what is compared, who gets which, and how each fared.

Owns the variants of drafts and their reading. Who gets which is a matter of two ids, the same for
ever, on every machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import msgspec

from outrider.base.errors import Refused
from outrider.contracts.channel import Channel, Renderer
from outrider.data.db import UnitOfWork
from outrider.domain.campaigns.delivery import BUCKETS, AbTest, NewVariant, shares
from outrider.domain.campaigns.rows import DELIVERY as SQL
from outrider.domain.templates import contents, templates
from outrider.domain.tracking import results

WAVE, LOT = 0, 3
"""Places of the digest: which wave somebody belongs to, and which variant, know nothing of one another."""


class VariantView(msgspec.Struct, frozen=True):
    """One of the contents a campaign compares. Its template's version was fixed when it was set."""

    n: int
    name: str
    share_percent: float
    content_id: UUID
    template_id: UUID
    template_version: int
    subject: str | None
    channel: str


class MessageVariant(msgspec.Struct, frozen=True):
    """Which variant a message is; n and name are null when its campaign compares nothing."""

    campaign_id: UUID | None
    content_id: UUID
    n: int | None
    name: str | None


class VariantResult(msgspec.Struct, frozen=True):
    """How a variant fared so far. counts: its messages by state, open ones as `queued`; rates: people of sent."""

    n: int
    name: str
    share_percent: float
    content_id: UUID
    is_winner: bool
    counts: dict[str, int]
    sent_count: int
    opened_count: int
    clicked_count: int
    open_rate: float
    click_rate: float
    machine_opened_count: int
    machine_clicked_count: int


def bucket(campaign_id: UUID, contact_id: UUID, place: int) -> int:
    """Which of 10,000 parts a contact belongs to, for a campaign: what `outrider_bucket` gives in the database."""
    digest = hashlib.sha256(campaign_id.bytes + contact_id.bytes).digest()
    return int.from_bytes(digest[place : place + 3]) % BUCKETS


async def keep(
    uow: UnitOfWork,
    channels: Mapping[str, Channel],
    renderer: Renderer,
    campaign_id: UUID,
    of_campaign: tuple[str, UUID | None],
    test: AbTest | None,
) -> None:
    """Put a draft's variants in the place of those it had; each is fixed to a version of its template.

    Takes:   of_campaign  its channel and template
    Raises:  Refused naming the variant's field: not_found, archived, other_channel, same_content, what it says.
    """
    await SQL.variants_drop.run(uow.raw, uow.tenant, campaign_id)
    if test is None:
        return
    seen: dict[UUID, str] = {}
    for at, (variant, width) in enumerate(zip(test.variants, shares(test.variants), strict=True)):
        field = f"/ab_test/variants/{at}"
        template_id, version, content_id = await _content(uow, channels, renderer, of_campaign, variant, field)
        if content_id in seen:
            raise Refused("same_content", f"says the same as {seen[content_id]}: nothing to compare", field=field)
        seen[content_id] = variant.name
        await SQL.variant_add.run(
            uow.raw, uow.tenant, campaign_id, at + 1, variant.name, width, content_id, template_id, version,
            variant.subject,
        )  # fmt: skip


async def _content(
    uow: UnitOfWork,
    channels: Mapping[str, Channel],
    renderer: Renderer,
    of_campaign: tuple[str, UUID | None],
    variant: NewVariant,
    field: str,
) -> tuple[UUID, int, UUID]:
    """The template, version and content of a variant."""
    channel, own_template = of_campaign
    template_id = variant.template_id or own_template
    if template_id is None:
        raise Refused("no_template", "the campaign has no template", field=f"{field}/template_id")
    try:
        template = await templates.get(uow, template_id)
        version = await templates.version_of(uow, template_id, variant.template_version)
    except Refused as refused:
        what = "template_version" if refused.field == "/version" else "template_id"
        raise Refused(refused.code, refused.message, field=f"{field}/{what}", status=refused.http_status) from None
    if template.archived_at is not None:
        raise Refused("archived", f"the template {template.name} is archived", field=f"{field}/template_id")
    if template.channel != channel:
        message = f"the template is {template.channel}, the campaign {channel}"
        raise Refused("other_channel", message, field=f"{field}/template_id")
    if variant.subject is None:
        return template_id, version.version, version.content_id
    said = (await contents.load(uow, uow.tenant, [version.content_id]))[version.content_id]
    try:
        content_id = await contents.save(
            uow, channels[channel], renderer, subject=variant.subject, html=said.html, text=said.text,
            preheader=said.preheader, attachments=said.attachments, is_template=said.is_template,
        )  # fmt: skip
    except Refused as refused:
        raise Refused(refused.code, refused.message, field=f"{field}/subject", status=refused.http_status) from None
    return template_id, version.version, content_id


async def listed(uow: UnitOfWork, campaign_id: UUID) -> list[VariantView]:
    """The variants of a campaign, in their order."""
    rows = await SQL.variants_of.many(uow.raw, uow.tenant, campaign_id)
    return [
        VariantView(
            row["n"], row["name"], row["width"] * 100 / BUCKETS, row["content_id"], row["template_id"],
            row["template_version"], row["subject"], row["channel"],
        )
        for row in rows
    ]  # fmt: skip


async def of_message(uow: UnitOfWork, message_id: UUID) -> MessageVariant:
    """Which variant somebody got.

    Raises:  Refused(not_found) when the message is not, or no longer, kept.
    """
    row = await SQL.variant_of_message.one(uow.raw, uow.tenant, message_id)
    if row is None:
        raise Refused("not_found", "no such message", field="/id", status=404)
    return MessageVariant(row["campaign_id"], row["content_id"], row["n"], row["name"])


async def fared(uow: UnitOfWork, campaign_id: UUID) -> list[VariantResult]:
    """How each variant of a campaign fared so far; reads every message of the campaign once."""
    states: dict[UUID, dict[str, int]] = {}
    for row in await SQL.variant_states.many(uow.raw, uow.tenant, campaign_id):
        states.setdefault(row["content_id"], {})[row["state"]] = row["n"]
    responses = {each.content_id: each for each in await results.by_content(uow, campaign_id)}
    winner = await SQL.winner_of.value(uow.raw, uow.tenant, campaign_id)
    return [
        _result(variant, states.get(variant.content_id, {}), responses.get(variant.content_id), winner)
        for variant in await listed(uow, campaign_id)
    ]


def _result(
    variant: VariantView, counts: dict[str, int], noticed: results.ByContent | None, winner: Any
) -> VariantResult:
    sent = sum(counts.get(state, 0) for state in results.SENT)
    opened, clicked = (noticed.opened, noticed.clicked) if noticed else (0, 0)
    return VariantResult(
        n=variant.n,
        name=variant.name,
        share_percent=variant.share_percent,
        content_id=variant.content_id,
        is_winner=variant.content_id == winner,
        counts=counts,
        sent_count=sent,
        opened_count=opened,
        clicked_count=clicked,
        open_rate=round(opened / sent, 4) if sent else 0.0,
        click_rate=round(clicked / sent, 4) if sent else 0.0,
        machine_opened_count=noticed.machine_opened if noticed else 0,
        machine_clicked_count=noticed.machine_clicked if noticed else 0,
    )
