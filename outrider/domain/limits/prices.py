"""Prices: what one part of a message costs, by channel and country, from a moment on.

Owns table `prices`. A tenant's own prices go before the installation's (tenant NIL); a country's before everybody's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg
import msgspec

from outrider.base.errors import Broken, Refused
from outrider.base.ids import NIL
from outrider.base.moments import moment
from outrider.contracts.actor import Actor
from outrider.data.db import UnitOfWork
from outrider.domain.audit.append import append
from outrider.domain.limits.reasons import NOT_GIVEN, clean_reason
from outrider.domain.limits.rows import SPENDING as SQL
from outrider.domain.tenants.policies import CAMPAIGN_FIELDS

MOST_MICROS = 10**9
_COUNTRY = re.compile(r"[A-Z]{2}|")
_CHANNEL = re.compile(r"[a-z][a-z0-9_]{0,39}")
_EMAIL: Final = "email"
_CURRENCY: Final = next(str(field.default) for field in CAMPAIGN_FIELDS if field.name == "currency")


class Price(msgspec.Struct, frozen=True):
    """What one part costs, in millionths of the currency. `country` '' is every country without a price of its own."""

    is_installation: bool
    channel: str
    country: str
    valid_from: datetime
    micros: int
    created_by: str


async def now(raw: asyncpg.Connection, tenant_id: UUID, channel: str, settings: Mapping[str, Any]) -> dict[str, int]:
    """What claims go by: micros for one part by country; '' is every other. Emails may have a price by setting alone.

    Takes:   settings of the tenant, presets included or not.
    """
    found = {row["country"]: row["micros"] for row in await SQL.prices_now.many(raw, tenant_id, channel)}
    if not found and channel == _EMAIL:
        return {"": int(settings.get("email_price_micros") or 0)}
    return found


def currency_of(settings: Mapping[str, Any]) -> str:
    """In which currency a tenant counts, by its settings."""
    return str(settings.get("currency") or _CURRENCY)


async def listed(uow: UnitOfWork) -> list[Price]:
    """Every price that the tenant goes by, the installation's, past ones and those to come included."""
    return [_price(row) for row in await SQL.prices_of.many(uow.raw, uow.tenant)]


async def add(
    uow: UnitOfWork,
    actor: Actor,
    channel: str,
    country: str,
    micros: int,
    *,
    valid_from: datetime | None = None,
    reason: str = NOT_GIVEN,
) -> Price:
    """Set a price from a moment on, by default from now. Audited. With a unit of work of tenant NIL: for everybody.

    Raises:  Refused(invalid_price, invalid_country, unknown_channel, offset_required, out_of_range).
    """
    _check(channel, country)
    moment(valid_from, "/valid_from")
    if not 0 <= micros <= MOST_MICROS:
        raise Refused("invalid_price", f"must be 0 to {MOST_MICROS:,} millionths", field="/micros")
    row = await SQL.price_add.one(uow.raw, uow.tenant, channel, country, valid_from, micros, actor.name)
    if row is None:
        raise Broken("price_lost", "the statement gives the row it wrote")
    await _changed(uow)
    await append(
        uow, actor, action="price.set", target=("price", f"{channel} {country or '*'}"), reason=clean_reason(reason),
        details={"micros": micros, "valid_from": row["valid_from"].isoformat()},
    )  # fmt: skip
    return _price(row)


async def remove(uow: UnitOfWork, actor: Actor, channel: str, country: str, *, reason: str = NOT_GIVEN) -> int:
    """Take the prices of a channel and country away, past ones and those to come. Audited each time.

    Gives:   how many there were.
    Raises:  Refused(unknown_channel, invalid_country).
    """
    _check(channel, country)
    rows = await SQL.price_remove.many(uow.raw, uow.tenant, channel, country)
    await _changed(uow)
    await append(
        uow, actor, action="price.remove", target=("price", f"{channel} {country or '*'}"), reason=clean_reason(reason),
        details={"was": [[row["valid_from"].isoformat(), row["micros"]] for row in rows[:100]]},
    )  # fmt: skip
    return len(rows)


async def _changed(uow: UnitOfWork) -> None:
    """Ask again about what waits for money of anybody, where the price is everybody's."""
    if uow.tenant == NIL:
        await SQL.accounts_free_all.run(uow.raw)


def _check(channel: str, country: str) -> None:
    if not _CHANNEL.fullmatch(channel):
        raise Refused("unknown_channel", "must be the key of a channel, such as sms", field="/channel")
    if not _COUNTRY.fullmatch(country):
        raise Refused("invalid_country", "must be an ISO 3166 code such as DE, or empty", field="/country")


def _price(row: asyncpg.Record) -> Price:
    tenant_id: UUID = row["tenant_id"]
    return Price(tenant_id == NIL, row["channel"], row["country"], row["valid_from"], row["micros"], row["created_by"])
