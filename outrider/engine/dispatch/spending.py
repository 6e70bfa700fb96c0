"""Money at the claim and after rendering: what messages cost, who has money for them, and what their true parts cost.

Owns the estimate of parts before a message is rendered; prices, accounts and charges are domain/limits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg

from outrider.contracts.channel import Channel
from outrider.contracts.gate import Block, Candidate, Hold, Lane, Verdict
from outrider.contracts.provider import Outgoing
from outrider.data.countries import country_of
from outrider.data.db import Database
from outrider.data.gsm import size_of
from outrider.data.template_syntax import bare
from outrider.domain.limits import charges, prices
from outrider.domain.limits.budgets import GATE
from outrider.domain.limits.charges import Cost, Payer
from outrider.domain.limits.rows import SPENDING
from outrider.engine.dispatch.batch import Batch, Money
from outrider.engine.dispatch.terms import Terms

_PRICELESS_FOR = timedelta(hours=1)
_MOST = 8192
_EMAIL = "email"
_GUARD = "fraud_guard"
_WITHOUT_PARTS = frozenset({_EMAIL})


class Spending:
    """For one worker."""

    def __init__(self) -> None:
        self._parts: dict[UUID, int] = {}
        """Parts of contents as estimated, and of messages whose true number was found to be more than was paid."""
        self.spent: Counter[tuple[str, str]] = Counter()
        """Micros by channel and currency: what messages cost that went."""
        self.billed_later: frozenset[str] = frozenset()
        """Channels with a provider that says only after the sending what it costs."""

    async def reserve(
        self,
        raw: asyncpg.Connection,
        lane: Lane,
        terms: Terms,
        token: int,
        going: Sequence[tuple[Candidate, UUID]],
        now: datetime,
    ) -> tuple[Money | None, dict[UUID, tuple[str, Verdict]]]:
        """Charge messages that have passed everything else, in order.

        Takes:   going: candidates with their contents.
        Gives:   what was charged (None when nothing costs anything), and whom there is no money for.
        """
        known = await prices.now(raw, lane.tenant_id, lane.channel, terms.settings)
        await self._estimate(raw, lane, {content_id for _, content_id in going})
        highest = terms.settings.get("highest_price_micros")
        costs: list[Cost] = []
        stopped: dict[UUID, tuple[str, Verdict]] = {}
        for candidate, content_id in going:
            country = country_of(candidate.address)
            price = known.get(country, known.get(""))
            if price is None:
                if terms.is_limited:
                    reason = f"no price is known for {lane.channel} to {country or 'this address'}"
                    stopped[candidate.id] = (GATE, Hold(now + _PRICELESS_FOR, reason))
            elif price:
                cost = Cost(candidate.id, price, self._parts.get(candidate.id) or self._parts.get(content_id, 1))
                if highest is not None and cost.micros > highest:
                    reason = f"it costs {cost.micros:,} millionths, more than the {highest:,} one message may"
                    stopped[candidate.id] = (_GUARD, Block(reason))
                else:
                    costs.append(cost)
        if not costs:
            return None, stopped
        payer = Payer(lane.tenant_id, terms.payer_id, terms.zone)
        is_asked = lane.channel in self.billed_later
        short, dates = await charges.reserve(raw, payer, token, costs, is_asked=is_asked)
        stopped.update((mid, (GATE, Hold(each.until, each.reason))) for mid, each in short.items())
        charged = {cost.message_id: cost for cost in costs if cost.message_id not in short}
        return Money(payer, dates, charged, highest, prices.currency_of(terms.settings), self.spent), stopped

    async def correct(
        self, database: Database, batch: Batch, channel: Channel, outgoing: Sequence[Outgoing]
    ) -> set[UUID]:
        """Charge finished messages for the parts they really have.

        Gives:   those whose further parts there is no money for, or that cost more than one message may: they must stay
                 in the house, and their next claim judges them by their true parts.
        """
        money = batch.money
        if money is None:
            return set()
        changes: dict[UUID, tuple[Cost, int]] = {}
        for message in outgoing:
            cost = money.costs.get(message.id)
            size = channel.measure(message.body) if cost is not None else None
            if cost is not None and size is not None and size.segments != cost.segments:
                changes[message.id] = (cost, size.segments)
        most = money.highest
        dear = {mid for mid, (cost, parts) in changes.items() if most is not None and cost.per_segment * parts > most}
        payable = {mid: change for mid, change in changes.items() if mid not in dear}
        refused = set(dear)
        if payable:
            async with database.transaction() as raw:
                refused |= await charges.correct(raw, money.payer, batch.token, money.dates, payable)
        for message_id in refused:
            self._remember(message_id, changes[message_id][1])
        for message_id in changes.keys() - refused:
            cost, parts = changes[message_id]
            money.costs[message_id] = Cost(message_id, cost.per_segment, parts)
        return refused

    async def _estimate(self, raw: asyncpg.Connection, lane: Lane, content_ids: set[UUID]) -> None:
        """Parts of contents nobody has looked at yet, by what their sources say without their variables."""
        unknown = [] if lane.channel in _WITHOUT_PARTS else [each for each in content_ids if each not in self._parts]
        if unknown:
            for row in await SPENDING.content_texts.many(raw, lane.tenant_id, unknown):
                self._remember(row["id"], size_of(bare(row["text"])).segments)

    def _remember(self, key: UUID, parts: int) -> None:
        if len(self._parts) >= _MOST:
            self._parts.clear()
        self._parts[key] = parts
