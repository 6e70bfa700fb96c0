"""How a campaign goes out: said of a draft, and checked against the world before its launch.

Owns the verb about a campaign's delivery as a whole; waves, variants, paces and local times are in files of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from outrider.contracts.actor import Actor
from outrider.contracts.channel import Channel, Renderer
from outrider.data.db import UnitOfWork
from outrider.domain.audit.append import append
from outrider.domain.campaigns import approvals, audience, local_time, variants
from outrider.domain.campaigns.delivery import AbTest, Delivery, LocalTime, check
from outrider.domain.campaigns.held import held_draft
from outrider.domain.campaigns.rows import DELIVERY as SQL
from outrider.domain.campaigns.shown import DeliveryView, row_of, shown
from outrider.domain.campaigns.views import CampaignView, Finding
from outrider.domain.tracking import choices


async def keep(
    uow: UnitOfWork,
    channels: Mapping[str, Channel],
    renderer: Renderer,
    actor: Actor,
    campaign_id: UUID,
    wanted: Delivery,
) -> DeliveryView:
    """Say of a draft how it goes out, in place of what was said before; its preflight has to be made again. Audited.

    Raises:  Refused(not_found; not_draft, 409); Refused naming each field that does not fit.
    """
    await held_draft(uow, campaign_id)
    check(wanted)
    row = await row_of(uow, campaign_id)
    if wanted.local_time is not None:
        await local_time.check(uow, wanted.local_time, row["read_at"])
    of_campaign = (row["channel"], row["template_id"])
    await variants.keep(uow, channels, renderer, campaign_id, of_campaign, wanted.ab_test)
    await SQL.delivery_keep.run(uow.raw, uow.tenant, campaign_id, wanted.stored())
    said = [name for name in wanted.__struct_fields__ if getattr(wanted, name) is not None]
    target = ("campaign", str(campaign_id))
    await append(uow, actor, action="campaign.delivery", target=target, details={"parts": said})
    await approvals.void(uow, actor, campaign_id)
    return await shown(uow, campaign_id)


async def findings(uow: UnitOfWork, campaign: CampaignView, member_count: int) -> list[Finding]:
    """What stands in the way of a campaign going out as it was said, and what people should know before."""
    wanted = campaign.delivery
    if wanted == Delivery():
        return []
    found = []
    if wanted.canary is not None and member_count <= wanted.canary.minimum_count:
        message = f"the canary's least count is {wanted.canary.minimum_count}: all of them go at once"
        found.append(Finding("canary_is_everybody", message, is_blocking=False))
    if wanted.ab_test is not None:
        found += await _of_variants(uow, campaign, wanted.ab_test)
    if wanted.local_time is not None:
        found += await _of_hours(uow, campaign, wanted.local_time)
    return found


async def _of_variants(uow: UnitOfWork, campaign: CampaignView, test: AbTest) -> list[Finding]:
    """What they say is looked at by `links.findings`."""
    found = []
    for asked, each in zip(test.variants, await variants.listed(uow, campaign.id), strict=True):
        if each.channel != campaign.channel or (asked.template_id is None and each.template_id != campaign.template_id):
            message = f"sender or template was changed after variant {each.name} was set: set the delivery again"
            found.append(Finding("variants_stale", message, is_blocking=True))
    if test.has_winner and test.decision == "automatic":
        noticed = await choices.effective(
            uow.raw, uow.tenant, sender_id=campaign.sender_id, campaign_id=campaign.id, message_class="bulk"
        )
        if not getattr(noticed, test.metric):
            message = f"{test.metric} are not noticed: nothing to choose a winner by; decide by hand, or notice them"
            found.append(Finding("nothing_noticed", message, is_blocking=True))
    return found


async def _of_hours(uow: UnitOfWork, campaign: CampaignView, rule: LocalTime) -> list[Finding]:
    now = (await row_of(uow, campaign.id))["read_at"]
    whole = await audience.checked(uow, campaign.list_id, campaign.segment_id, campaign.exclusions)
    times = await local_time.found(uow, rule, whole, now)
    span = f"{times.first_at:%Y-%m-%d %H:%M} to {times.last_at:%Y-%m-%d %H:%M} UTC"
    found = [Finding("local_times", f"goes at {rule.at:%H:%M} local time, from {span}", is_blocking=False)]
    if times.without_zone_count:
        by = rule.fallback_zone or "the zone of the tenant"
        message = f"{times.without_zone_count} have no known zone and get it by {by}"
        found.append(Finding("zone_unknown", message, is_blocking=False))
    if times.late_count:
        is_all = rule.late == "skip" and times.late_count == times.member_count
        what = "get it at once" if rule.late == "send" else "are left out"
        found.append(Finding("hour_passed", f"{times.late_count} are past that hour and {what}", is_blocking=is_all))
    if campaign.expires_at is not None and campaign.expires_at <= times.last_at:
        message = "the last zones have their hour after expires_at and get nothing"
        found.append(Finding("expires_before_hour", message, is_blocking=False))
    return found
