"""What a message would cost, said before it is sent: the price that its claim will go by, for the parts it has.

Owns the quote and charges nobody. Prices, and what is charged in the end, are domain/limits; parts are the channel's.
"""

from __future__ import annotations

import msgspec

from outrider.base.errors import Refused
from outrider.contracts.channel import Channel
from outrider.data.countries import country_of
from outrider.data.db import UnitOfWork
from outrider.domain.contacts.channels import stored_form
from outrider.domain.limits import budgets, prices
from outrider.domain.templates.preview import MeasureView, Preview, measured
from outrider.domain.tenants import tenants


class CountryPrice(msgspec.Struct, frozen=True):
    """What the message costs to a country with a price of its own; '' is every other."""

    country: str
    per_part_micros: int
    total_micros: int


class Quote(msgspec.Struct, frozen=True):
    """What a message costs, in millionths of the currency; null where no price is known, and `note` says so.

    country    the recipient's; null: it is not known who gets it, so that `countries` says what it depends on; '': its
               address belongs to no country
    countries  every country with a price of its own
    """

    currency: str
    parts: int
    country: str | None
    per_part_micros: int | None
    total_micros: int | None
    note: str = ""
    countries: list[CountryPrice] = []


class PricedMeasure(MeasureView, frozen=True):
    """How many parts a text is sent and billed as, and what that costs."""

    price: Quote


class PricedPreview(Preview, frozen=True, kw_only=True):
    """A rendered version, and what it costs to send it."""

    price: Quote


async def of_text(
    uow: UnitOfWork,
    channel: Channel,
    text: str,
    to: str | None,
    *,
    field: str = "/to",
    channel_field: str = "/channel",
) -> PricedMeasure:
    """What a finished text comes to and costs, to somebody or to whom it may be.

    Takes:   to: an address in any form that is usual in the tenant's country; the fields: where both stand.
    Raises:  Refused(not_for_channel, and what the channel says of the address).
    """
    size = size_of(channel, text, field=channel_field)
    address = None if to is None else await stored_form(uow.raw, uow.tenant, channel, to, field=field)
    return PricedMeasure(**msgspec.structs.asdict(size), price=await quote(uow, channel.key, size.segments, address))


def size_of(channel: Channel, text: str, *, field: str = "/channel") -> MeasureView:
    """How many parts a finished text is.

    Raises:  Refused(not_for_channel) where messages are not counted in parts.
    """
    size = measured(channel, text.encode(errors="replace"))
    if size is None:
        raise Refused("not_for_channel", f"messages of channel {channel.key} have no parts", field=field)
    return size


async def of_preview(uow: UnitOfWork, channel: str, made: Preview, address: str | None) -> PricedPreview:
    """A preview with its price; address None: nobody in particular would get it."""
    parts = made.measure.segments if made.measure is not None else 1
    return PricedPreview(**msgspec.structs.asdict(made), price=await quote(uow, channel, parts, address))


async def quote(uow: UnitOfWork, channel: str, parts: int, address: str | None) -> Quote:
    """What a message of so many parts costs.

    Takes:   address in its stored form; None: it is not known yet.
    """
    settings = (await tenants.get(uow, uow.tenant)).settings
    known = await prices.now(uow.raw, uow.tenant, channel, settings)
    country = None if address is None else country_of(address)
    each = known.get(country or "", known.get(""))
    own = sorted(place for place in known if place) if address is None else []
    return Quote(
        currency=prices.currency_of(settings),
        parts=parts,
        country=country,
        per_part_micros=each,
        total_micros=None if each is None else each * parts,
        note="" if each is not None else await _unknown(uow, channel, country, is_for_some=bool(known)),
        countries=[CountryPrice(place, known[place], known[place] * parts) for place in own],
    )


async def _unknown(uow: UnitOfWork, channel: str, country: str | None, *, is_for_some: bool) -> str:
    """That no price is known, and what becomes of the message then."""
    budget = await budgets.read(uow, "tenant", uow.tenant)
    is_limited = budget.daily_cents is not None or budget.monthly_cents is not None
    then = "it waits until there is one, because there is a budget" if is_limited else "it is sent, and not counted"
    if country is None:
        where = " to every other country" if is_for_some else ""
    else:
        where = f" to {country or 'an address of no country'}"
    return f"no price is known for {channel}{where} (outrider budget set-price): {then}"
