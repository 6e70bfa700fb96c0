"""Rates of destinations: how fast a tenant sends to a mail domain, or texts to a country; one bucket for all workers.

Owns table `destination_rates`. The installation's hold for each tenant that has none of its own for that destination;
each tenant has a bucket of its own either way. What a rate holds is turns.py's.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import datetime
from uuid import UUID

import asyncpg
import msgspec

from outrider.base.errors import Broken, Refused
from outrider.base.ids import NIL
from outrider.contracts.actor import Actor
from outrider.data.db import UnitOfWork
from outrider.domain.audit.append import append
from outrider.domain.limits.buckets import LEAST_PER_S, check_rate
from outrider.domain.limits.reasons import NOT_GIVEN, clean_reason
from outrider.domain.limits.rows import PACES as SQL

GATE = "destination_rate"
MOST = 1000
"""Rates of a tenant, and of the installation."""
_DOMAIN = re.compile(r"(?=.{1,253}\Z)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])")
_COUNTRY = re.compile(r"[A-Z]{2}")


class DestinationRate(msgspec.Struct, frozen=True):
    """At most `burst` messages at once and `rate_per_s` on average. `is_own`: the tenant's; else the installation's."""

    channel: str
    destination: str
    rate_per_s: float
    burst: float
    is_own: bool
    updated_at: datetime


async def set_rate(
    uow: UnitOfWork,
    actor: Actor,
    channel: str,
    destination: str,
    rate_per_s: float,
    burst: float | None = None,
    *,
    reason: str = NOT_GIVEN,
) -> tuple[DestinationRate, list[UUID]]:
    """Limit a destination; holds for claims from the commit on. Audited.

    Takes:   the unit of work of a tenant, or NIL's (engine role): then for every tenant without a rate of its own.
             destination: a mail domain (email), or a country (ISO 3166) for texts.
    Gives:   the rate, and the tenants of whom messages are held by the one before: release what gate `GATE` holds.
    Raises:  Refused(unknown_channel, invalid_destination, invalid_rate, too_many).
    """
    destination = clean(channel, destination)
    burst = max(1.0, rate_per_s) if burst is None else burst
    check_rate(rate_per_s, LEAST_PER_S, "/rate_per_s")
    check_rate(burst, 1.0, "/burst")
    if await SQL.destination_rates_count.value(uow.raw, uow.tenant, channel, destination) >= MOST:
        raise Refused("too_many", f"at most {MOST} destinations", field="/destination")
    row = await SQL.destination_rate_set.one(uow.raw, uow.tenant, channel, destination, float(rate_per_s), float(burst))
    if row is None:
        raise Broken("destination_rate_lost", "the statement gives the row it wrote")
    details = {"channel": channel, "rate_per_s": rate_per_s, "burst": burst}
    target = ("destination", destination)
    await append(uow, actor, action="rate.set", target=target, reason=clean_reason(reason), details=details)
    return _rate(row, uow.tenant), await _forget(uow, channel, destination)


async def clear(
    uow: UnitOfWork, actor: Actor, channel: str, destination: str, *, reason: str = NOT_GIVEN
) -> tuple[DestinationRate | None, list[UUID]]:
    """Take a rate away: a tenant's own gives place to the installation's. Gives what it was. Audited each time."""
    destination = clean(channel, destination)
    row = await SQL.destination_rate_clear.one(uow.raw, uow.tenant, channel, destination)
    details = {"channel": channel, **({"rate_per_s": row["rate"], "burst": row["cap"]} if row else {})}
    target = ("destination", destination)
    await append(uow, actor, action="rate.clear", target=target, reason=clean_reason(reason), details=details)
    return _rate(row, uow.tenant) if row else None, await _forget(uow, channel, destination)


async def listed(uow: UnitOfWork) -> list[DestinationRate]:
    """The rates that hold for the unit of work's tenant, the installation's included."""
    return [_rate(row, uow.tenant) for row in await SQL.destination_rates_of.many(uow.raw, uow.tenant)]


def clean(channel: str, destination: str) -> str:
    """A destination as it is kept. Raises Refused(unknown_channel, invalid_destination)."""
    if channel == "email":
        name = destination.strip().rstrip(".").lower()
        if not name.isascii():
            try:
                name = name.encode("idna").decode("ascii")
            except UnicodeError:
                name = ""
        if _DOMAIN.fullmatch(name):
            return name
        raise Refused("invalid_destination", "must be a mail domain such as gmail.com", field="/destination")
    if channel == "sms":
        if _COUNTRY.fullmatch(country := destination.strip().upper()):
            return country
        raise Refused("invalid_destination", "must be a country such as AU", field="/destination")
    raise Refused("unknown_channel", "must be email or sms", field="/channel")


async def _forget(uow: UnitOfWork, channel: str, destination: str) -> list[UUID]:
    """Turns given out by another rate hold no longer. Gives whose they were."""
    whose = None if uow.tenant == NIL else uow.tenant
    rows: Collection[asyncpg.Record] = await SQL.destination_turns_forget.many(uow.raw, whose, channel, destination)
    return sorted({row["tenant_id"] for row in rows})


def _rate(row: asyncpg.Record, tenant_id: UUID) -> DestinationRate:
    is_own = row["tenant_id"] == tenant_id
    return DestinationRate(row["channel"], row["destination"], row["rate"], row["cap"], is_own, row["updated_at"])
