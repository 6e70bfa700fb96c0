"""What a campaign says as it stands: its variants where it compares some, else its own content or the latest version.

Owns the choice of the version, and of the variant that somebody names; reads only.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from outrider.base.errors import Refused
from outrider.contracts.channel import Content
from outrider.data.db import UnitOfWork
from outrider.domain.campaigns import variants
from outrider.domain.campaigns.rows import DELIVERY as SQL
from outrider.domain.campaigns.views import CampaignView
from outrider.domain.templates import contents, templates


@dataclass(frozen=True, slots=True)
class Said:
    """One of the contents that recipients may get.

    version   of the template; None for a content without one
    variant   its name; None where the campaign compares nothing
    """

    content_id: UUID
    template_id: UUID | None
    version: int | None
    channel: str
    variant: str | None = None


async def own(uow: UnitOfWork, campaign: CampaignView) -> Said:
    """Its own content, which nobody gets who gets a variant; a draft without a version says its template's latest."""
    if campaign.template_id is None or campaign.template_version is not None:
        return Said(campaign.content_id, campaign.template_id, campaign.template_version, campaign.channel)
    latest = await templates.version_of(uow, campaign.template_id)
    return Said(latest.content_id, campaign.template_id, latest.version, campaign.channel)


async def all_said(uow: UnitOfWork, campaign: CampaignView) -> list[Said]:
    """Everything that recipients may get if it is launched now: with variants these alone, in their order."""
    known = await variants.listed(uow, campaign.id)
    if not known:
        return [await own(uow, campaign)]
    return [Said(each.content_id, each.template_id, each.template_version, each.channel, each.name) for each in known]


async def said_as(uow: UnitOfWork, campaign: CampaignView, variant: str | None) -> Said:
    """What those get who get a variant, by its name; without a name the winner, else the first one.

    Raises:  Refused(no_variants, unknown_variant) naming /variant.
    """
    found = await all_said(uow, campaign)
    names = [each.variant for each in found if each.variant is not None]
    if variant is None:
        winner = await SQL.winner_of.value(uow.raw, uow.tenant, campaign.id) if names else None
        return next((each for each in found if each.content_id == winner), found[0])
    if not names:
        raise Refused("no_variants", "the campaign compares nothing", field="/variant", status=409)
    if variant not in names:
        raise Refused("unknown_variant", f"must be one of {', '.join(names)}", field="/variant")
    return found[names.index(variant)]


async def loaded(uow: UnitOfWork, said: list[Said]) -> list[tuple[Said, Content]]:
    """Contents with what they say, in the order given."""
    found = await contents.load(uow, uow.tenant, [each.content_id for each in said])
    return [(each, found[each.content_id]) for each in said]
