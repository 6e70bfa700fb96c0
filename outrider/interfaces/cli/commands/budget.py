"""Budgets and prices: what may be spent, what is spent, and what messages cost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from cyclopts import App, Parameter

from outrider.base.errors import Refused
from outrider.base.ids import NIL
from outrider.data.db import Role
from outrider.domain.contacts.channels import channel_of
from outrider.domain.limits import budgets, prices
from outrider.domain.messages import holds
from outrider.interfaces.cli import campaigns
from outrider.interfaces.cli.doors import doors
from outrider.interfaces.cli.options import CHANGING, COMMON, Changing, Common, Limit
from outrider.interfaces.cli.output import Answer, table
from outrider.interfaces.cli.plugged import channels
from outrider.interfaces.cli.work import Work, changing, looking, note, within

APP = App(name="budget")
_COLUMNS = (
    "scope", "scope_id", "daily_spent_cents", "daily_cents", "monthly_spent_cents", "monthly_cents", "day_ends_at",
)  # fmt: skip
_EVENT_COLUMNS = ("at", "scope", "scope_id", "period", "period_on", "percent", "spent_cents", "limit_cents")
_PRICE_COLUMNS = ("channel", "country", "micros", "valid_from", "is_installation", "created_by")
Campaign = Annotated[str | None, Parameter(help="A campaign's, by name or id; absent: the tenant's.")]
Everybody = Annotated[bool, Parameter(negative="", help="For every tenant.")]
Country = Annotated[str, Parameter(help="ISO 3166 code; absent: every country without a price of its own.")]


@APP.command(name="list")
async def list_(*, options: Common = COMMON) -> Answer:
    """List the budgets of a tenant and its campaigns, and what is spent in this day and month.

    Example: `outrider budget list`
    """
    async with looking(options) as work:
        rows = [msgspec.to_builtins(each) for each in await budgets.listed(work.uow)]
    return Answer(rows, table(rows, _COLUMNS, empty="nothing was ever spent, and no budget is set"))


@APP.command(name="set")
async def set_(
    *, daily: str | None = None, monthly: str | None = None, campaign: Campaign = None, options: Changing = CHANGING
) -> Answer:
    """Set a budget in whole cents; what is not named stays. What the old one held is asked about again.

    Example: `outrider budget set --daily 50000 --monthly 1000000`

    Parameters
    ----------
    daily
        Cents per day in the tenant's zone, or `none`.
    monthly
        Cents per month, or `none`.
    """
    if daily is None and monthly is None:
        raise Refused("required", "name --daily or --monthly")
    async with changing(options, role=Role.ENGINE) as work:
        scope, scope_id = await _place(work, campaign)
        before = await budgets.read(work.uow, scope, scope_id)
        made = await budgets.set_budget(
            work.uow, work.actor, scope, scope_id,
            daily_cents=_cents(daily, before.daily_cents, "--daily"),
            monthly_cents=_cents(monthly, before.monthly_cents, "--monthly"), reason=options.reason,
        )  # fmt: skip
        await holds.release(work.uow, budgets.GATE, made.scope_id if campaign else None)
    text = f"budget of the {scope}: {made.daily_cents} cents a day, {made.monthly_cents} a month"
    return Answer(msgspec.to_builtins(made), note(text.replace("None", "no limit"), dry_run=options.dry_run))


@APP.command
async def reset(
    *,
    period: Literal["day", "month", "both"] = "day",
    campaign: Campaign = None,
    options: Changing = CHANGING,
) -> Answer:
    """Count what is spent from nothing again.

    Example: `outrider budget reset --period day`

    Parameters
    ----------
    period
        What is reset.
    """
    async with changing(options, role=Role.ENGINE) as work:
        scope, scope_id = await _place(work, campaign)
        made = await budgets.reset(work.uow, work.actor, scope, scope_id, period, reason=options.reason)
        await holds.release(work.uow, budgets.GATE, made.scope_id if campaign else None)
    text = f"spent by the {scope}: {made.daily_spent_cents} cents today, {made.monthly_spent_cents} this month"
    return Answer(msgspec.to_builtins(made), note(text, dry_run=options.dry_run))


@APP.command
async def events(*, limit: Limit = 100, options: Common = COMMON) -> Answer:
    """List which budgets were used up to 50, 80, 90 or 100 percent.

    Example: `outrider budget events`
    """
    async with looking(options) as work:
        rows = [msgspec.to_builtins(each) for each in await budgets.events(work.uow, limit=limit)]
    return Answer(rows, table(rows, _EVENT_COLUMNS, empty="no budget was half used"))


@APP.command(name="prices")
async def prices_(*, options: Common = COMMON) -> Answer:
    """List what messages cost, in millionths of the tenant's currency for one part.

    Example: `outrider budget prices`
    """
    async with looking(options) as work:
        rows = [msgspec.to_builtins(each) for each in await prices.listed(work.uow)]
    return Answer(rows, table(rows, _PRICE_COLUMNS, empty="no prices"))


@APP.command(name="set-price")
async def set_price(
    channel: str,
    micros: str,
    *,
    country: Country = "",
    installation: Everybody = False,
    options: Changing = CHANGING,
) -> Answer:
    """Set what one part of a message costs from now on.

    Example: `outrider budget set-price sms 79000 --country AU`

    Parameters
    ----------
    channel
        The channel, such as sms.
    micros
        Millionths of the currency: 7900 is 0.79 cents.
    """
    amount = _whole(micros, "micros")
    channel_of(channels(), channel, field="channel")
    async with _pricing(options, installation=installation) as work:
        made = await prices.add(work.uow, work.actor, channel, country, amount, reason=options.reason)
    text = f"{channel} to {country or 'every other country'}: {amount / 1_000_000:.6f} a part"
    return Answer(msgspec.to_builtins(made), note(text, dry_run=options.dry_run))


@APP.command(name="remove-price")
async def remove_price(
    channel: str, *, country: Country = "", installation: Everybody = False, options: Changing = CHANGING
) -> Answer:
    """Take the prices of a channel and country away, past ones and those to come.

    Example: `outrider budget remove-price sms --country AU`

    Parameters
    ----------
    channel
        The channel, such as sms.
    """
    async with _pricing(options, installation=installation) as work:
        count = await prices.remove(work.uow, work.actor, channel, country, reason=options.reason)
    data: dict[str, Any] = {"channel": channel, "country": country, "count": count}
    return Answer(data, note(f"{count} price(s) removed", dry_run=options.dry_run))


@asynccontextmanager
async def _pricing(options: Changing, *, installation: bool) -> AsyncIterator[Work]:
    """Change prices of the tenant, whose held messages are asked about again, or those for every tenant."""
    if installation and options.tenant is not None:
        raise Refused("invalid_choice", "give --tenant or --installation, not both", field="--installation")
    if installation:
        async with (
            doors().database() as db,
            within(db, NIL, role=Role.ENGINE, dry_run=options.dry_run, reason=options.reason) as work,
        ):
            yield work  # what everybody's prices hold is asked about again with the change
    else:
        async with changing(options, role=Role.ENGINE) as work:
            yield work
            await holds.release(work.uow, budgets.GATE)


async def _place(work: Work, campaign: str | None) -> tuple[str, UUID]:
    if campaign is None:
        return "tenant", work.tenant_id
    return "campaign", (await campaigns.find(work.uow, campaign)).id


def _cents(text: str | None, before: int | None, field: str) -> int | None:
    if text is None:
        return before
    return None if text == "none" else _whole(text, field)


def _whole(text: str, field: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 15:  # noqa: PLR2004 - beyond every bound
        raise Refused("invalid_number", "must be a whole number in plain digits", field=field)
    return int(text)
