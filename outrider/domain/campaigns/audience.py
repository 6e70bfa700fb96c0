"""Whom a campaign goes to: a list or a segment, less its exclusions; frozen at the launch, found once, then fanned out.

Owns what an audience consists of. A plain list is walked as it is; everything else is found in one statement after the
launch, as of the launch, and kept until the campaign has ended.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Final, Literal
from uuid import UUID

import asyncpg
import msgspec

from outrider.base.errors import Refused
from outrider.base.settings import Settings
from outrider.data.countries import country_of
from outrider.data.db import Database, Role, UnitOfWork
from outrider.domain.campaigns import waves
from outrider.domain.campaigns.delivery import Delivery
from outrider.domain.campaigns.rows import SQL
from outrider.domain.campaigns.views import CampaignView, Excluded, Exclusions, Finding
from outrider.domain.contacts import attributes, lists
from outrider.domain.segments import check, rules, segments

GROWTH: Final = 1.1
"""So many times the members that were approved may belong to it at the launch, and after it."""

SETTLE_WITHIN_MS = 900_000
_EACH_WITHIN_S: Final = 5.0
_What = Literal["list", "segment", "campaign"]
_Count = Annotated[int, msgspec.Meta(ge=0)]


class Reach(msgspec.Struct, frozen=True):
    """Whom a campaign would reach now, gate by gate; excluded_count are not among the members.

    countries   who would go by the country of their number ('' none); empty unless it was asked for
    """

    member_count: _Count
    excluded_count: _Count
    no_address_count: _Count
    suppressed_count: _Count
    without_consent_count: _Count
    role_count: _Count = 0
    countries: dict[str, int] = {}
    excluded_by: list[Excluded] = []

    @property
    def will_go_count(self) -> int:
        """How many are left."""
        return self.member_count - self.no_address_count - self.suppressed_count - self.without_consent_count


def is_plain(campaign: CampaignView) -> bool:
    """Whether it goes to a list as it is."""
    return campaign.list_id is not None and campaign.exclusions == Exclusions()


def is_walked(campaign: CampaignView) -> bool:
    """Whether its list is walked as it is, once; waves one after the other need one audience that stays the same."""
    return is_plain(campaign) and not campaign.delivery.has_waves


def base_of(list_id: UUID | None, segment_id: UUID | None) -> rules.Rule:
    """Whom it goes to before exclusions."""
    if segment_id is not None:
        return rules.InSegment(segment_id)
    return rules.OnList([list_id]) if list_id is not None else rules.AnyOf([])


def rule_of(list_id: UUID | None, segment_id: UUID | None, without: Exclusions) -> rules.Rule:
    """Whom it goes to, as rules."""
    out: list[rules.Rule] = [rules.InSegment(each) for each in without.segment_ids]
    if without.list_ids:
        out.append(rules.OnList(without.list_ids))
    if without.campaign_ids:
        out.append(rules.OfCampaign(without.campaign_ids, outcome="may_have_got"))
    base = base_of(list_id, segment_id)
    return rules.AllOf([base, rules.Not(rules.AnyOf(out))]) if out else base


async def checked(
    uow: UnitOfWork, list_id: UUID | None, segment_id: UUID | None, without: Exclusions, *, field: str = "/exclusions"
) -> rules.Rule:
    """The rules of an audience by themselves: what they name exists, segments are put in place.

    Raises:  Refused(unknown_list, unknown_campaign, unknown_segment).
    """
    return await check.checked(uow, rule_of(list_id, segment_id, without), await attributes.listed(uow), field=field)


async def reach(uow: UnitOfWork, campaign: CampaignView, *, by_country: bool = False) -> Reach:
    """Whom it would reach now."""
    facts = (campaign.channel, campaign.purpose, by_country)
    if is_plain(campaign):
        rows = await SQL.audience.many(uow.raw, uow.tenant, campaign.list_id, *facts)
    else:
        world = await segments.world(uow)
        whole = await checked(uow, campaign.list_id, campaign.segment_id, campaign.exclusions)
        own = (uow.tenant, *facts, campaign.segment_id is not None)
        within = segments.COUNT_WITHIN_MS
        rows = await segments.settled(uow, SQL.audience_of_rules, whole, *own, now=world.now, within_ms=within)
    row = next(each for each in rows if each["is_total"])
    excluded = 0
    by: list[Excluded] = []
    if campaign.exclusions != Exclusions():
        base = await segments.count(uow, base_of(campaign.list_id, campaign.segment_id))
        excluded = max(0, base.contact_count - row["member_count"])
        by = await _excluded_by(uow, campaign, excluded)
    return Reach(
        member_count=row["member_count"],
        excluded_count=excluded,
        no_address_count=row["no_address_count"],
        suppressed_count=row["suppressed_count"],
        without_consent_count=_without_consent(row),
        role_count=row["role_count"],
        countries=_countries([each for each in rows if not each["is_total"]]) if by_country else {},
        excluded_by=by,
    )


async def _excluded_by(uow: UnitOfWork, campaign: CampaignView, excluded_count: int) -> list[Excluded]:
    """How many each exclusion takes of those it goes to; what would come after `_EACH_WITHIN_S` is not counted."""
    without, base = campaign.exclusions, base_of(campaign.list_id, campaign.segment_id)
    named: list[tuple[_What, UUID, str, rules.Rule]] = [
        ("list", each, (await lists.get(uow, each)).name, rules.OnList([each])) for each in without.list_ids
    ]
    named += [
        ("segment", each, (await segments.get(uow, each)).name, rules.InSegment(each)) for each in without.segment_ids
    ]
    for each in without.campaign_ids:
        row = await SQL.campaign_get.one(uow.raw, uow.tenant, each)
        name = "" if row is None else row["name"]
        named.append(("campaign", each, name, rules.OfCampaign([each], outcome="may_have_got")))
    if len(named) == 1:
        ((what, each, name, _),) = named
        return [Excluded(what, each, name, excluded_count)]
    ends_s = time.monotonic() + _EACH_WITHIN_S
    found = []
    for what, each, name, rule in named:
        left_ms = int((ends_s - time.monotonic()) * 1000)
        found.append(Excluded(what, each, name, await _count_within(uow, rules.AllOf([base, rule]), left_ms)))
    return found


async def _count_within(uow: UnitOfWork, rule: rules.Rule, within_ms: int) -> int | None:
    """How many some rules hold for; None when it takes longer: nothing is refused because this is not known."""
    if within_ms <= 0:
        return None
    try:
        async with uow.savepoint(is_kept=False):  # undone: what was cut short, and how long statements may take
            return (await segments.count(uow, rule, within_ms=within_ms)).contact_count
    except asyncpg.QueryCanceledError:
        return None


def _without_consent(row: asyncpg.Record) -> int:
    count: int = row["withdrawn_count"] + row["silent_count"] * row["is_consent_required"]
    return count


def _countries(groups: Sequence[asyncpg.Record]) -> dict[str, int]:
    """Who would go by country; each group are numbers that begin alike, judged by one of them."""
    found: Counter[str] = Counter()
    for row in groups:
        if row["sample"] is not None:
            stopped = row["no_address_count"] + row["suppressed_count"] + _without_consent(row)
            found[country_of(row["sample"])] += row["member_count"] - stopped
    return {country: count for country, count in found.items() if count}


async def frozen(uow: UnitOfWork, campaign: CampaignView) -> str | None:
    """What is kept of the audience at the launch; None for a plain list that is walked once."""
    if is_walked(campaign):
        return None
    return check.encode(await checked(uow, campaign.list_id, campaign.segment_id, campaign.exclusions))


async def findings(uow: UnitOfWork, settings: Settings, campaign: CampaignView) -> list[Finding]:
    """What stands in the way of excluding those who got another campaign."""
    ids = campaign.exclusions.campaign_ids
    rows = await SQL.excluded_campaigns.many(uow.raw, uow.tenant, ids, settings.keep_messages_days) if ids else []
    found = []
    for row in rows:
        name = row["name"]
        if row["state"] == "draft":
            message = f"{name} was not launched: excluding those who got it excludes nobody"
            found.append(Finding("exclusion_not_launched", message, is_blocking=False))
        elif row["is_forgotten"]:
            message = f"{name} is so old that who got it is no longer kept; nobody of them would be excluded"
            found.append(Finding("exclusion_forgotten", message, is_blocking=True))
        elif row["is_under_way"]:
            message = f"the recipients of {name} are still being queued; launch when that is done"
            found.append(Finding("exclusion_under_way", message, is_blocking=True))
    return found


async def settle(db: Database, tenant_id: UUID, campaign_id: UUID) -> int | None:
    """Find who belongs to a launched campaign, once, in one transaction that a pause does not wait for.

    Gives:   how many; None when it was done, is being done elsewhere or is not to be done now.
    Raises:  Refused(approval_outgrown, 409) when it is more than a second person saw, or nobody had to; nothing was
             written then.
    """
    async with db.uow(Role.ENGINE, tenant_id) as uow:
        if not await SQL.audience_turn.value(uow.raw, campaign_id):
            return None
        row = await SQL.audience_due.one(uow.raw, tenant_id, campaign_id)
        if row is None:
            return None
        (found,) = await segments.settled(
            uow,
            SQL.settle_audience,
            check.decode(row["audience"]),
            tenant_id,
            campaign_id,
            row["launched_at"],
            now=row["launched_at"],
            within_ms=SETTLE_WITHIN_MS,
        )
        _refuse_outgrown(found["n"], row["launched_count"], row["approval_above_count"])
        await SQL.audience_settled.run(uow.raw, tenant_id, campaign_id, found["n"])
        await waves.plan(uow, campaign_id, Delivery.read(row["delivery"]))
        count: int = found["n"]
        return count


def _refuse_outgrown(count: int, launched_count: int, approval_above_count: int | None) -> None:
    """A small launch does not become a large one behind the back of who would have to approve it."""
    if approval_above_count is None or count <= max(approval_above_count, launched_count * GROWTH):
        return
    why = f"{launched_count} members were counted at the launch, {count} it would be now: cancel it, and ask anew"
    raise Refused("approval_outgrown", why, field="/id", status=409)
