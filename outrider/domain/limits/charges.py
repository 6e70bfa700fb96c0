"""Charges: money is reserved for an attempt at its claim, corrected once its bytes are known, returned if not sent.

Owns table `charges`. Each charge names the lease token of its attempt: what is fenced off gives nothing back, and an
attempt whose outcome nobody knows stays charged. Runs inside the claim's and the recorder's transactions.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any
from uuid import UUID

import asyncpg
import orjson
import structlog

from outrider.contracts.callbacks import Bill
from outrider.domain.limits import accounts
from outrider.domain.limits.accounts import Account, Pot, cents
from outrider.domain.limits.prices import currency_of
from outrider.domain.limits.rows import SPENDING as SQL
from outrider.domain.tenants.rows import SQL as TENANTS

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Payer:
    """Who pays: a tenant in its zone, and the campaign, if any; for a retry the campaign that it sends again."""

    tenant_id: UUID
    campaign_id: UUID | None
    zone: str


@dataclass(slots=True)
class Cost:
    """What one message costs: so many parts at so many micros."""

    message_id: UUID
    per_segment: int
    segments: int

    @property
    def micros(self) -> int:
        """The whole price."""
        return self.per_segment * self.segments


@dataclass(frozen=True, slots=True)
class Dates:
    """The local day, and the first of the month, that charges belong to."""

    day_on: date
    month_on: date


@dataclass(frozen=True, slots=True)
class Short:
    """There is too little money for a message until an instant."""

    until: datetime
    reason: str


async def reserve(
    raw: asyncpg.Connection, payer: Payer, token: int, costs: Sequence[Cost], *, is_asked: bool = False
) -> tuple[dict[UUID, Short], Dates]:
    """Charge attempts, in order, as long as the campaign and the tenant have money for them.

    Takes:   costs of messages picked and not yet leased; the claim's transaction, after its other locks. is_asked: the
             provider says later what they really cost.
    Gives:   those there is no money for, and until when; the others are charged, to these dates.
    """
    held = await _accounts(raw, payer)
    charged, short = _taken(held, costs)
    await _written(raw, held, payer, token, charged, is_asked=is_asked)
    for account in held if short else ():
        for pot in (account.day, account.month):
            if pot.limit is not None and any(_is_of(account, pot, lacking) for lacking in short.values()):
                await accounts.note(raw, account, pot, 100)
    return short, Dates(held[-1].day.on, held[-1].month.on)


async def correct(
    raw: asyncpg.Connection, payer: Payer, token: int, dates: Dates, changes: Mapping[UUID, tuple[Cost, int]]
) -> set[UUID]:
    """Take account of how many parts finished messages really have.

    Takes:   changes: message -> (its cost as charged, its true number of parts).
    Gives:   those whose further parts there is no money for, which stay charged as they were, and those that are not
             charged any more: they must not be sent. What has a price of its provider's already keeps that.
    """
    rows = await SQL.charges_lock.many(raw, payer.tenant_id, list(changes), token)  # before accounts, as who settles
    refused = changes.keys() - {row["message_id"] for row in rows}
    open_ones = {row["message_id"] for row in rows if not row["is_settled"]}
    changes = {message_id: change for message_id, change in changes.items() if message_id in open_ones}
    if not changes:
        return refused
    held = await _accounts(raw, payer)
    done: list[Cost] = []
    # what is given back first may pay for the others
    for message_id, (cost, segments) in sorted(changes.items(), key=lambda item: item[1][1] - item[1][0].segments):
        more = cost.per_segment * (segments - cost.segments)
        if more > 0 and _lacking(held, more) is not None:
            refused.add(message_id)
            continue
        for account in held:
            if more > 0:
                account.take(more)
            else:
                account.give_back(-more, dates.day_on, dates.month_on)
        done.append(Cost(message_id, cost.per_segment, segments))
    if done:
        for account in held:
            await accounts.write(raw, account)
        ids = [cost.message_id for cost in done]
        micros, segments_of = [cost.micros for cost in done], [cost.segments for cost in done]
        await SQL.charges_change.run(raw, payer.tenant_id, ids, token, micros, segments_of)
    return refused


async def release(raw: asyncpg.Connection, tenant_id: UUID, ids: Sequence[UUID], tokens: Sequence[int]) -> None:
    """Give back what attempts were charged that are known not to have been sent."""
    rows = await SQL.charges_take_back.many(raw, tenant_id, list(ids), list(tokens))
    await _give_back(raw, tenant_id, rows)


async def release_all(raw: asyncpg.Connection, tenant_id: UUID, ids: Sequence[UUID]) -> None:
    """Give back every attempt of messages that somebody found not to have been sent."""
    await _give_back(raw, tenant_id, await SQL.charges_take_back_all.many(raw, tenant_id, list(ids)))


async def name(raw: asyncpg.Connection, tenant_id: UUID, accepted: Mapping[tuple[UUID, int], str]) -> None:
    """Note by which id the provider knows attempts that followed others, so that each gets its own bill.

    Takes:   accepted: the id at the provider by message and lease token.
    """
    ids, tokens = [each for each, _ in accepted], [token for _, token in accepted]
    await SQL.charges_name.run(raw, tenant_id, ids, tokens, list(accepted.values()))


async def settle(raw: asyncpg.Connection, tenant_id: UUID, bills: Mapping[UUID, Bill]) -> set[UUID]:
    """Put the provider's own prices in place of the reservations; they count even where they are beyond the budget.

    Takes:   bills of messages, told once or again; a message that was sent twice has two, told apart by their ids at
             the provider. One in another currency than the tenant's cannot be counted: what was reserved stays.
    Gives:   the messages that had a charge and whose price is counted now.
    """
    if not bills:
        return set()
    row = await TENANTS.tenant_get.one(raw, tenant_id)
    currency = currency_of(orjson.loads(row["settings"]) if row is not None else {})
    foreign = {each.currency for each in bills.values()} - {currency}
    if foreign:
        _log.warning("price_currency", tenant=str(tenant_id), ours=currency, theirs=sorted(foreign)[:5])
        kept = [message_id for message_id, bill in bills.items() if bill.currency != currency]
        await SQL.charges_keep.run(raw, tenant_id, kept)
    ours = {message_id: bill for message_id, bill in bills.items() if bill.currency == currency}
    micros, sids = [micros_of(bill.amount) for bill in ours.values()], [bill.provider_id for bill in ours.values()]
    rows = await SQL.charges_settle.many(raw, tenant_id, list(ours), micros, sids)
    changes = [(row["campaign_id"], row["micros"] - row["was"], row["day_on"], row["month_on"]) for row in rows]
    if any(change for _, change, _, _ in changes):
        await _apply(raw, tenant_id, changes)
    return {row["message_id"] for row in rows}


async def due(raw: asyncpg.Connection, tenant_id: UUID, *, most: int, days: int) -> dict[UUID, datetime]:
    """Messages whose provider is to be asked what they cost, and when they were charged; each is due again later.

    Takes:   days: what has no price after so many costs what was reserved, and is not asked about any more.
    """
    rows = await SQL.charges_due.many(raw, tenant_id, most, days)
    return {row["message_id"]: row["at"] for row in rows if not row["is_over"]}


def micros_of(amount: Decimal) -> int:
    """An amount of money in millionths, half a one rounded up."""
    return int((amount * 1_000_000).to_integral_value(ROUND_HALF_UP))


async def of_message(raw: asyncpg.Connection, tenant_id: UUID, message_id: UUID) -> list[dict[str, Any]]:
    """What a message was charged, attempt by attempt."""
    return [dict(row) for row in await SQL.charges_of.many(raw, tenant_id, message_id)]


async def _accounts(raw: asyncpg.Connection, payer: Payer) -> list[Account]:
    """The accounts of a payer, locked in their order."""
    held: list[Account] = []
    if payer.campaign_id is not None:
        held.append(await accounts.lock(raw, payer.tenant_id, "campaign", payer.campaign_id, payer.zone))
    held.append(await accounts.lock(raw, payer.tenant_id, "tenant", payer.tenant_id, payer.zone))
    return held


async def _written(
    raw: asyncpg.Connection,
    held: Sequence[Account],
    payer: Payer,
    token: int,
    charged: Sequence[Cost],
    *,
    is_asked: bool,
) -> None:
    for account in held:
        await accounts.write(raw, account)
    if charged:
        day, month = held[-1].day.on, held[-1].month.on
        ids, micros = [cost.message_id for cost in charged], [cost.micros for cost in charged]
        segments = [cost.segments for cost in charged]
        key = (payer.tenant_id, ids, token, payer.campaign_id)
        await SQL.charges_add.run(raw, *key, micros, segments, day, month, is_asked)


def _taken(held: Sequence[Account], costs: Sequence[Cost]) -> tuple[Sequence[Cost], dict[UUID, Short]]:
    """Spend for each in order; gives those there is money for, and what the others lack."""
    total = sum(cost.micros for cost in costs)
    if _lacking(held, total) is None:  # as ever but at the end of a budget
        for account in held:
            account.take(total)
        return costs, {}
    charged: list[Cost] = []
    short: dict[UUID, Short] = {}
    for cost in costs:
        lack = _lacking(held, cost.micros)
        if lack is None:
            for account in held:
                account.take(cost.micros)
            charged.append(cost)
        else:
            lack[0].lack()
            short[cost.message_id] = _short(*lack, cost.micros)
    return charged, short


def _lacking(held: Sequence[Account], micros: int) -> tuple[Account, Pot] | None:
    """The account and period that have too little; the one that ends last decides."""
    found = [(account, pot) for account in held if (pot := account.lacking(micros)) is not None]
    return max(found, key=lambda each: each[1].ends_at, default=None)


def _short(account: Account, pot: Pot, micros: int) -> Short:
    limit = pot.limit or 0
    spent = f"{_amount(pot.spent)} of {_amount(limit)} are spent, this costs {micros / 1_000_000:.4f}"
    return Short(pot.ends_at, f"{_named(account, pot)}: {spent}")


def _named(account: Account, pot: Pot) -> str:
    return f"the {'daily' if pot.period == 'day' else 'monthly'} budget of the {account.scope}"


def _is_of(account: Account, pot: Pot, short: Short) -> bool:
    return short.reason.startswith(f"{_named(account, pot)}: ")


def _amount(micros: int) -> str:
    return f"{cents(micros) / 100:.2f}"


async def _give_back(raw: asyncpg.Connection, tenant_id: UUID, rows: Sequence[asyncpg.Record]) -> None:
    if rows:
        await _apply(
            raw, tenant_id, [(row["campaign_id"], -row["micros"], row["day_on"], row["month_on"]) for row in rows]
        )


async def _apply(
    raw: asyncpg.Connection, tenant_id: UUID, changes: Sequence[tuple[UUID | None, int, date, date]]
) -> None:
    """Change accounts by so many micros of a day and month: campaigns by id, then the tenant."""
    of_campaign: defaultdict[UUID, list[tuple[int, date, date]]] = defaultdict(list)
    of_tenant: list[tuple[int, date, date]] = []
    for campaign_id, micros, day_on, month_on in changes:
        of_tenant.append((micros, day_on, month_on))
        if campaign_id is not None:
            of_campaign[campaign_id].append((micros, day_on, month_on))
    zone = await SQL.zone_of_tenant.value(raw, tenant_id) or "UTC"
    for campaign_id in sorted(of_campaign):
        await _change(raw, await accounts.lock(raw, tenant_id, "campaign", campaign_id, zone), of_campaign[campaign_id])
    await _change(raw, await accounts.lock(raw, tenant_id, "tenant", tenant_id, zone), of_tenant)


async def _change(raw: asyncpg.Connection, account: Account, changes: Sequence[tuple[int, date, date]]) -> None:
    for micros, day_on, month_on in changes:
        account.give_back(-micros, day_on, month_on)
    await accounts.write(raw, account)
