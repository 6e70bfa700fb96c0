"""What a campaign would cost: the prices that its claims go by, for as many parts as its longest text seems to have.

Owns the estimate and what there is to say about it. Prices, and what is charged in the end, are domain/limits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from outrider.contracts.channel import Channel
from outrider.data.db import UnitOfWork
from outrider.data.template_syntax import bare
from outrider.domain.campaigns import content
from outrider.domain.campaigns.audience import Reach
from outrider.domain.campaigns.views import CampaignView, Cost, CountryCost, Finding
from outrider.domain.contacts.channels import channel_of
from outrider.domain.limits import budgets, prices
from outrider.domain.limits.budgets import Budget
from outrider.domain.senders import senders

_CENT: Final = 10_000
_MOST_NAMED: Final = 10


class Tariff(msgspec.Struct, frozen=True):
    """What one part costs by country ('' is every other), and how many parts a message seems to have."""

    channel: str
    currency: str
    micros: dict[str, int]
    parts: int = 1
    is_in_parts: bool = False

    @property
    def is_by_country(self) -> bool:
        """Whether it has to be known who is where."""
        return any(self.micros)

    def cost(self, reach: Reach) -> Cost | None:
        """What it costs to write to everybody; None where no price is known for anybody."""
        where = reach.countries if self.is_by_country else {"": reach.will_go_count}
        rows = []
        for country, count in sorted(where.items()):
            each = self.micros.get(country, self.micros.get(""))
            total = None if each is None else each * self.parts * count
            rows.append(CountryCost(country, count, each, total))
        priced = [row for row in rows if row.total_micros is not None]
        if not priced and (rows or not self.micros):
            return None
        total = sum(row.total_micros or 0 for row in priced)
        count = sum(row.count for row in priced)
        return Cost(
            currency=self.currency,
            per_message_micros=round(total / count) if count else self.micros.get("", 0) * self.parts,
            total_micros=total,
            parts=self.parts if self.is_in_parts else None,
            is_estimate=self.is_in_parts or self.is_by_country,
            unpriced_count=sum(row.count for row in rows if row.total_micros is None),
            countries=rows if self.is_by_country else [],
        )


async def tariff_of(
    uow: UnitOfWork, channels: Mapping[str, Channel], campaign: CampaignView, settings: Mapping[str, Any]
) -> Tariff:
    """What its messages cost, as its claims will see it.

    Takes:   settings of the tenant, presets included.
    """
    micros = await prices.now(uow.raw, uow.tenant, campaign.channel, settings)
    channel = channel_of(channels, campaign.channel)
    currency = str(settings["currency"])
    if channel.measure(b"") is None:
        return Tariff(campaign.channel, currency, micros)
    ending = (await senders.get(uow, campaign.sender_id)).opt_out_line
    said = await content.loaded(uow, await content.all_said(uow, campaign))
    parts = max(_parts(channel, bare(each.text or ""), ending) for _, each in said)
    return Tariff(campaign.channel, currency, micros, parts, is_in_parts=True)


def _parts(channel: Channel, text: str, ending: str) -> int:
    size = channel.measure(f"{text}\n{ending}".encode() if ending and ending not in text else text.encode())
    return size.segments if size else 1


async def findings(uow: UnitOfWork, campaign: CampaignView, cost: Cost | None) -> list[Finding]:
    """What there is to say about money before a launch: unknown prices, and budgets that will not do."""
    found = [budget for budget in await budgets.listed(uow) if budget.scope_id in {uow.tenant, campaign.id}]
    limited = [each for each in found if each.daily_cents is not None or each.monthly_cents is not None]
    waits = "they wait until there is one, because there is a budget" if limited else "what it costs cannot be told"
    if cost is None:
        message = f"no price is known for {campaign.channel} (outrider budget set-price): {waits}"
        return [Finding("no_price", message, is_blocking=False)]
    told = []
    if cost.unpriced_count:
        unpriced = [row.country or "numbers of no country" for row in cost.countries if row.total_micros is None]
        named = ", ".join(unpriced[:_MOST_NAMED]) + (" …" if len(unpriced) > _MOST_NAMED else "")
        message = f"no price is known for {cost.unpriced_count} of them ({named}): {waits}"
        told.append(Finding("unpriced", message, is_blocking=False))
    told += [one for budget in limited for one in _short(budget, cost)]
    return told


def _short(budget: Budget, cost: Cost) -> list[Finding]:
    """A budget with less left than it takes: what is beyond waits for the next day or month."""
    pots = (
        ("daily", budget.daily_cents, budget.daily_spent_cents),
        ("monthly", budget.monthly_cents, budget.monthly_spent_cents),
    )
    found = []
    for name, limit, spent in pots:
        left = None if limit is None else max(0, limit - spent)
        if left is not None and left * _CENT < cost.total_micros:
            message = (
                f"the {name} budget of the {budget.scope} has {left / 100:,.2f} {cost.currency} left, this takes "
                f"{cost.total_micros / 1_000_000:,.2f}: the rest waits for a raise or the next {_NEXT[name]}"
            )
            found.append(Finding("budget_short", message, is_blocking=False))
    return found


_NEXT: Final = {"daily": "day", "monthly": "month"}
