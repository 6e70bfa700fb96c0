"""Preflight: whom a campaign would reach now, and everything that stands in its way, before anything is sent.

Owns the findings; sends nothing and dials nobody (examining a connection is `senders.connections.examined`, trying
links `data.link_dial`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import urlsplit
from uuid import UUID

import msgspec

from outrider.base.errors import Misconfigured, Refused, RefusedMany
from outrider.base.settings import Settings
from outrider.base.web import is_local_host
from outrider.contracts.channel import Channel
from outrider.data.db import UnitOfWork
from outrider.data.link_dial import Dialled
from outrider.domain.campaigns import approvals, audience, going_out, links, pacing, price, read, warming
from outrider.domain.campaigns.audience import Reach
from outrider.domain.campaigns.rows import SQL
from outrider.domain.campaigns.views import CampaignView, Finding, Preflight, campaign_view
from outrider.domain.limits import buckets
from outrider.domain.senders import connections, senders
from outrider.domain.senders.connections import StageView, Vault
from outrider.domain.templates import templates
from outrider.domain.tenants import tenants

ACKNOWLEDGEABLE: Final = ("empty_suppressions",)
"""Findings that block until somebody says that they mean it."""


async def preflight(
    uow: UnitOfWork,
    settings: Settings,
    vault: Vault,
    campaign_id: UUID,
    *,
    channels: Mapping[str, Channel],
    stages: list[StageView] | None = None,
    dialled: Sequence[Dialled] = (),
) -> Preflight:
    """Check a draft and keep what was found with it.

    Takes:   stages: what an examination of the sender's connection gave, when it was made; dialled: what became of the
             campaign's links, when they were tried.
    Raises:  Refused(not_found).
    """
    found = await look(uow, settings, vault, campaign_id, channels=channels, stages=stages, dialled=dialled)
    await SQL.keep_preflight.run(uow.raw, uow.tenant, campaign_id, msgspec.json.encode(found).decode())
    return found


async def look(
    uow: UnitOfWork,
    settings: Settings,
    vault: Vault,
    campaign_id: UUID,
    *,
    channels: Mapping[str, Channel],
    stages: list[StageView] | None = None,
    dialled: Sequence[Dialled] = (),
) -> Preflight:
    """What `preflight` finds, without keeping it."""
    row = await read.row_of(uow, campaign_id)
    campaign = campaign_view(row)
    tenant = await tenants.get(uow, uow.tenant)
    tariff = await price.tariff_of(uow, channels, campaign, tenant.settings)
    reach = await audience.reach(uow, campaign, by_country=tariff.is_by_country)
    cost = tariff.cost(reach)
    will_go = reach.will_go_count
    rate_per_s, rate_source = pacing.narrowed(campaign.delivery, will_go, *await _rate(uow, campaign))
    estimated_s = pacing.estimated_s(campaign.delivery, will_go, rate_per_s, row["read_at"])
    estimated_s, slower = await warming.slowed(uow, campaign, will_go, row["read_at"], estimated_s)
    findings = [
        *await _links(uow, settings, campaign),
        *_people(campaign, reach),
        *await audience.findings(uow, settings, campaign),
        *_expiry(campaign, row["read_at"], will_go, rate_per_s),
        *slower,
        *await _sender(uow, vault, campaign),
        *await _template(uow, campaign),
        *await links.findings(uow, settings, channels, campaign),
        *links.dialled_findings(dialled),
        *await _unprotected(uow, campaign),
        *await going_out.findings(uow, campaign, reach.member_count),
        *await approvals.findings(uow, tenant.settings, campaign, row["read_at"], reach.member_count),
        *await price.findings(uow, campaign, cost),
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
        estimated_s=estimated_s,
        findings=findings,
        checked_at=row["read_at"],
        excluded_count=reach.excluded_count,
        rate_source=rate_source,
        estimated_at=row["read_at"] + timedelta(seconds=estimated_s) if estimated_s is not None else None,
        role_address_count=reach.role_count,
        cost=cost,
        dialled_links=list(dialled),
        excluded_by=reach.excluded_by,
    )


def refuse(found: Preflight, *, but: frozenset[str] = frozenset()) -> None:
    """Stop here when something stands in the way.

    Takes:   but: codes that are no obstacle to what is to be done.
    Raises:  RefusedMany(preflight codes, 409) naming everything.
    """
    blocking = [finding for finding in found.findings if finding.is_blocking and finding.code not in but]
    if blocking:
        raise RefusedMany([Refused(one.code, one.message, field="/preflight", status=409) for one in blocking])


async def acknowledge(uow: UnitOfWork, campaign_id: UUID, codes: Sequence[str]) -> None:
    """Keep with a campaign what somebody said yes to, before it is looked at; the caller audits it.

    Raises:  Refused(unknown_acknowledgement) for what is not asked of anybody.
    """
    for at, code in enumerate(codes):
        if code not in ACKNOWLEDGEABLE:
            known = ", ".join(ACKNOWLEDGEABLE)
            raise Refused("unknown_acknowledgement", f"must be one of {known}", field=f"/acknowledge/{at}")
    if codes:
        await SQL.acknowledge.run(uow.raw, uow.tenant, campaign_id, list(codes))


async def _rate(uow: UnitOfWork, campaign: CampaignView) -> tuple[float | None, str | None]:
    """How fast it will go and how that is known: the narrowest limit that concerns it, else what was measured."""
    sender = await senders.get(uow, campaign.sender_id)
    concerned = {uow.tenant, sender.id, sender.connection_id}
    limits = [rate.rate_per_s for rate in await buckets.listed(uow) if rate.scope_id in concerned]
    if limits:
        return min(limits), "limit"
    measured: float | None = await SQL.measured_rate.value(uow.raw, uow.tenant, campaign.sender_id)
    return (round(measured, 3), "measured") if measured else (None, None)


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


async def _unprotected(uow: UnitOfWork, campaign: CampaignView) -> list[Finding]:
    """Ask before the first campaign of somebody whose do-not-contact list is empty, as after moving here without it."""
    code = "empty_suppressions"
    if not await SQL.is_first_unprotected.value(uow.raw, uow.tenant, campaign.id, campaign.channel):
        return []
    is_known = code in campaign.acknowledged
    message = (
        "this is the first campaign and nobody is on the do-not-contact list: import who unsubscribed, bounced or "
        f"complained at your former system, or acknowledge {code}"
    )
    return [Finding(code, message, is_blocking=not is_known, is_acknowledgeable=True, is_acknowledged=is_known)]


def _people(campaign: CampaignView, reach: Reach) -> list[Finding]:
    what = "list" if campaign.segment_id is None else "segment"
    if reach.member_count == 0 and reach.excluded_count:
        return [Finding("everybody_excluded", f"the exclusions leave nobody of the {what}", is_blocking=True)]
    if reach.member_count == 0:
        return [Finding(f"{what}_empty", f"the {what} has no members", is_blocking=True)]
    if reach.will_go_count == 0:
        return [Finding("nobody", f"nobody on the {what} may be written to", is_blocking=True)]
    findings = []
    if reach.without_consent_count:
        message = (
            f"{reach.without_consent_count} members have not consented, or turned off every list that they got, "
            "and will get nothing"
        )
        findings.append(Finding("without_consent", message, is_blocking=False))
    if reach.role_count:
        message = (
            f"{reach.role_count} addresses belong to offices (info@, sales@ …): they complain more often than people"
        )
        findings.append(Finding("role_addresses", message, is_blocking=False))
    return findings


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
    if sender.channel == "email" and not sender.postal_address:
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
