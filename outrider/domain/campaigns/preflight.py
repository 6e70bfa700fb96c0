"""Preflight: whom a campaign would reach now, and everything that stands in its way, before anything is sent.

Owns the findings; sends nothing and dials nobody (examining a connection is `senders.connections.examined`).
"""

from __future__ import annotations

from datetime import datetime
from urllib.parse import urlsplit
from uuid import UUID

import msgspec

from outrider.base.errors import Misconfigured, Refused
from outrider.base.settings import Settings
from outrider.base.web import is_local_host
from outrider.data.db import UnitOfWork
from outrider.domain.campaigns import audience, read
from outrider.domain.campaigns.audience import Reach
from outrider.domain.campaigns.rows import SQL
from outrider.domain.campaigns.views import CampaignView, Finding, Preflight, campaign_view
from outrider.domain.limits import buckets
from outrider.domain.senders import connections, senders
from outrider.domain.senders.connections import StageView, Vault
from outrider.domain.templates import templates


async def preflight(
    uow: UnitOfWork,
    settings: Settings,
    vault: Vault,
    campaign_id: UUID,
    *,
    stages: list[StageView] | None = None,
) -> Preflight:
    """Check a draft and keep what was found with it.

    Takes:   stages: what an examination of the sender's connection gave, when it was made.
    Raises:  Refused(not_found).
    """
    found = await look(uow, settings, vault, campaign_id, stages=stages)
    await SQL.keep_preflight.run(uow.raw, uow.tenant, campaign_id, msgspec.json.encode(found).decode())
    return found


async def look(
    uow: UnitOfWork,
    settings: Settings,
    vault: Vault,
    campaign_id: UUID,
    *,
    stages: list[StageView] | None = None,
) -> Preflight:
    """What `preflight` finds, without keeping it."""
    row = await read.row_of(uow, campaign_id)
    campaign = campaign_view(row)
    reach = await audience.reach(uow, campaign)
    will_go = reach.will_go_count
    rate_per_s = await _rate(uow, campaign)
    findings = [
        *await _links(uow, settings, campaign),
        *_people(campaign, reach),
        *await audience.findings(uow, settings, campaign),
        *_expiry(campaign, row["read_at"], will_go, rate_per_s),
        *await _sender(uow, vault, campaign),
        *await _template(uow, campaign),
        *_switches(await read.paused_by(uow, campaign)),
        *_connection(stages),
    ]
    return Preflight(
        member_count=reach.member_count,
        no_address_count=reach.no_address_count,
        suppressed_count=reach.suppressed_count,
        without_consent_count=reach.without_consent_count,
        will_go_count=will_go,
        rate_per_s=rate_per_s,
        estimated_s=round(will_go / rate_per_s, 1) if rate_per_s else None,
        findings=findings,
        checked_at=row["read_at"],
        excluded_count=reach.excluded_count,
    )


async def _rate(uow: UnitOfWork, campaign: CampaignView) -> float | None:
    """The narrowest limit that concerns it."""
    concerned = {uow.tenant, campaign.sender_id}
    return min((rate.rate_per_s for rate in await buckets.listed(uow) if rate.scope_id in concerned), default=None)


async def _links(uow: UnitOfWork, settings: Settings, campaign: CampaignView) -> list[Finding]:
    """Links that only this machine could follow: the sender's bases where it has them, else the installation's."""
    if settings.allow_localhost_links:
        return []
    sender = await senders.get(uow, campaign.sender_id)
    base = sender.public_url or settings.public_url
    for what, url in (("unsubscribe links", base), ("tracked links", sender.tracking_url or base)):
        if is_local_host(urlsplit(url).hostname or ""):
            message = f"{what} would point to {url}, this machine alone; set OUTRIDER_PUBLIC_URL or the sender's own"
            return [Finding("localhost_links", message, is_blocking=True)]
    return []


def _people(campaign: CampaignView, reach: Reach) -> list[Finding]:
    what = "list" if campaign.segment_id is None else "segment"
    if reach.member_count == 0 and reach.excluded_count:
        return [Finding("everybody_excluded", f"the exclusions leave nobody of the {what}", is_blocking=True)]
    if reach.member_count == 0:
        return [Finding(f"{what}_empty", f"the {what} has no members", is_blocking=True)]
    if reach.will_go_count == 0:
        return [Finding("nobody", f"nobody on the {what} may be written to", is_blocking=True)]
    if reach.without_consent_count:
        message = f"{reach.without_consent_count} members have not consented and will get nothing"
        return [Finding("without_consent", message, is_blocking=False)]
    return []


def _expiry(campaign: CampaignView, now: datetime, will_go: int, rate_per_s: float | None) -> list[Finding]:
    if campaign.expires_at is None:
        return []
    left_s = (campaign.expires_at - now).total_seconds()
    if left_s <= 0:
        return [Finding("expired", "expires_at is in the past", is_blocking=True)]
    if rate_per_s and will_go / rate_per_s > left_s:
        message = (
            f"at {rate_per_s:g} messages per second only {int(left_s * rate_per_s)} of {will_go} go before expires_at"
        )
        return [Finding("too_slow", message, is_blocking=False)]
    return []


async def _sender(uow: UnitOfWork, vault: Vault, campaign: CampaignView) -> list[Finding]:
    """Whether the sender can be used as it is stored."""
    sender = await senders.get(uow, campaign.sender_id)
    findings = []
    if sender.archived_at is not None:
        findings.append(Finding("sender_archived", f"the sender {sender.name} is archived", is_blocking=True))
    if not sender.postal_address:
        message = "the sender has no postal address; many countries require one in advertising"
        findings.append(Finding("no_postal_address", message, is_blocking=False))
    try:
        await connections.opened(uow, vault, sender.connection_id)
    except (Refused, Misconfigured) as error:
        message = f"the sender's connection cannot be used: {error.message}"
        findings.append(Finding("connection_unusable", message, is_blocking=True))
    return findings


async def _template(uow: UnitOfWork, campaign: CampaignView) -> list[Finding]:
    if campaign.template_id is None:
        return []
    template = await templates.get(uow, campaign.template_id)
    if template.archived_at is not None:
        return [Finding("template_archived", f"the template {template.name} is archived", is_blocking=True)]
    if campaign.template_version not in {None, template.latest_version}:
        message = f"version {campaign.template_version} is chosen, the latest is {template.latest_version}"
        return [Finding("older_version", message, is_blocking=False)]
    return []


def _switches(scopes: list[str]) -> list[Finding]:
    """A pause is no obstacle: the campaign waits and goes on when it ends."""
    return [
        Finding("paused", f"sending is paused ({scope}); messages will wait", is_blocking=False) for scope in scopes
    ]


def _connection(stages: list[StageView] | None) -> list[Finding]:
    failed = [stage for stage in stages or [] if not stage.is_ok]
    message = "the connection did not answer as it should"
    return [Finding("connection_failed", f"{message}: {one.name}: {one.detail}", is_blocking=False) for one in failed]
