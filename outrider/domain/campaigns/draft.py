"""Drafts: making, changing and deleting campaigns that were never launched."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import asyncpg
import msgspec
from msgspec import UNSET, UnsetType

from outrider.base.errors import Refused
from outrider.base.moments import moment
from outrider.contracts.actor import Actor
from outrider.data.db import UnitOfWork
from outrider.domain.audit.append import append
from outrider.domain.campaigns import approvals, audience, read
from outrider.domain.campaigns.held import held_draft
from outrider.domain.campaigns.rows import SQL
from outrider.domain.campaigns.views import CampaignView, Exclusions
from outrider.domain.contacts import lists, values
from outrider.domain.segments import segments
from outrider.domain.senders import senders
from outrider.domain.templates import templates

Priority = Annotated[int, msgspec.Meta(ge=0, le=9)]
Version = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
Instant = Annotated[datetime, msgspec.Meta(tz=True)]


class NewCampaign(msgspec.Struct, forbid_unknown_fields=True):
    """A campaign to be made, to a list or a segment. Without `template_version` it takes the latest at its launch."""

    name: str
    sender_id: UUID
    template_id: UUID
    list_id: UUID | None = None
    segment_id: UUID | None = None
    exclusions: Exclusions = Exclusions()
    template_version: Version | None = None
    purpose: str = "marketing"
    priority: Priority = 5
    expires_at: Instant | None = None


class CampaignChange(msgspec.Struct, forbid_unknown_fields=True):
    """What shall be different about a draft; what is not named stays. A list takes the place of a segment, and back."""

    name: str | UnsetType = UNSET
    sender_id: UUID | UnsetType = UNSET
    template_id: UUID | UnsetType = UNSET
    list_id: UUID | UnsetType = UNSET
    segment_id: UUID | UnsetType = UNSET
    exclusions: Exclusions | UnsetType = UNSET
    template_version: Version | UnsetType | None = UNSET
    purpose: str | UnsetType = UNSET
    priority: Priority | UnsetType = UNSET
    expires_at: Instant | UnsetType | None = UNSET


async def create(uow: UnitOfWork, actor: Actor, new: NewCampaign) -> CampaignView:
    """Make a draft.

    Raises:  Refused(name_taken, 409); Refused naming what does not exist or does not fit.
    """
    campaign_id = await SQL.insert_campaign.value(uow.raw, uow.tenant, *await _columns(uow, new), actor.name)
    if campaign_id is None:
        raise _name_taken()
    target = ("campaign", str(campaign_id))
    await append(uow, actor, action="campaign.create", target=target, details={"name": new.name})
    return await read.get(uow, campaign_id)


async def update(uow: UnitOfWork, actor: Actor, campaign_id: UUID, change: CampaignChange) -> CampaignView:
    """Change a draft; its preflight has to be made again.

    Raises:  Refused(not_found; not_draft, name_taken, 409); Refused naming what does not fit.
    """
    await held_draft(uow, campaign_id)
    now = await read.get(uow, campaign_id)
    if now.template_id is None:
        raise Refused("no_template", "the campaign has no template", field="/template_id", status=409)
    wanted = NewCampaign(
        name=now.name,
        sender_id=now.sender_id,
        template_id=now.template_id,
        list_id=None if change.segment_id is not UNSET else now.list_id,
        segment_id=None if change.list_id is not UNSET else now.segment_id,
        exclusions=now.exclusions,
        template_version=None if change.template_id is not UNSET else now.template_version,
        purpose=now.purpose,
        priority=now.priority,
        expires_at=now.expires_at,
    )
    given = {name: value for name in change.__struct_fields__ if (value := getattr(change, name)) is not UNSET}
    try:
        columns = await _columns(uow, msgspec.structs.replace(wanted, **given))
        await SQL.update_draft.value(uow.raw, uow.tenant, campaign_id, *columns)
    except asyncpg.UniqueViolationError:
        raise _name_taken() from None
    target = ("campaign", str(campaign_id))
    await append(uow, actor, action="campaign.update", target=target, details={"fields": sorted(given)})
    await approvals.void(uow, actor, campaign_id)
    return await read.get(uow, campaign_id)


async def delete(uow: UnitOfWork, actor: Actor, campaign_id: UUID) -> None:
    """Delete a draft; launched campaigns stay.

    Raises:  Refused(not_found; not_draft, 409).
    """
    await held_draft(uow, campaign_id)
    name = await SQL.delete_draft.value(uow.raw, uow.tenant, campaign_id)
    target = ("campaign", str(campaign_id))
    await append(uow, actor, action="campaign.delete", target=target, details={"name": name})


async def _columns(uow: UnitOfWork, wanted: NewCampaign) -> tuple[Any, ...]:
    """What is stored of a draft, checked: sender, template and audience exist and fit together."""
    expires_at = moment(wanted.expires_at, "/expires_at")
    sender = await senders.get(uow, wanted.sender_id, field="/sender_id")
    template = await _named(uow, wanted)
    await _check_audience(uow, wanted)
    if template.channel != sender.channel:
        raise Refused(
            "other_channel", f"the template is {template.channel}, the sender {sender.channel}", field="/template_id"
        )
    version = await templates.version_of(uow, wanted.template_id, wanted.template_version)
    return (
        values.check_label(wanted.name),
        sender.channel,
        values.check_purpose(wanted.purpose),
        wanted.sender_id,
        version.content_id,
        wanted.template_id,
        wanted.template_version,
        wanted.list_id,
        wanted.segment_id,
        msgspec.json.encode(wanted.exclusions).decode(),
        wanted.priority,
        expires_at,
    )


async def _check_audience(uow: UnitOfWork, wanted: NewCampaign) -> None:
    if (wanted.list_id is None) == (wanted.segment_id is None):
        raise Refused("one_audience", "needs either list_id or segment_id", field="/list_id")
    if wanted.list_id is not None:
        await lists.get(uow, wanted.list_id, field="/list_id")
    if wanted.segment_id is not None:
        await segments.get(uow, wanted.segment_id, field="/segment_id")
    await audience.checked(uow, wanted.list_id, wanted.segment_id, wanted.exclusions)


async def _named(uow: UnitOfWork, wanted: NewCampaign) -> templates.TemplateView:
    try:
        return await templates.get(uow, wanted.template_id)
    except Refused as refused:
        raise Refused(refused.code, refused.message, field="/template_id", status=refused.http_status) from None


def _name_taken() -> Refused:
    return Refused("name_taken", "another campaign has this name", field="/name", status=409)
