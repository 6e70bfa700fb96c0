"""Send rates of a tenant, a sender and a connection (an account at a provider).

Each is one bucket in the database, shared by every worker.
"""

from __future__ import annotations

import math
from typing import Literal, get_args
from uuid import UUID

import asyncpg
import msgspec

from outrider.base.errors import Broken, Refused
from outrider.base.ids import NIL
from outrider.contracts.actor import Actor
from outrider.data.db import UnitOfWork
from outrider.domain.audit.append import append
from outrider.domain.limits.reasons import NOT_GIVEN, clean_reason
from outrider.domain.limits.rows import SQL

Scope = Literal["tenant", "sender", "connection"]
MOST_PER_S = 1_000_000.0
LEAST_PER_S = 0.001


class Rate(msgspec.Struct, frozen=True):
    """At most `burst` messages at once and `rate_per_s` on average."""

    scope: str
    scope_id: UUID
    rate_per_s: float
    burst: float


async def set_rate(
    uow: UnitOfWork,
    actor: Actor,
    scope: str,
    scope_id: UUID,
    rate_per_s: float,
    burst: float | None = None,
    *,
    reason: str = NOT_GIVEN,
) -> Rate:
    """Limit a tenant, one of its senders or of its connections; holds for claims from the commit on. Audited.

    Takes:   rate_per_s 0.001..1,000,000; burst 1..1,000,000, by default one second's worth.
    Raises:  Refused(unknown_scope, not_found, invalid_rate).
    """
    tenant_id = await _place(uow, scope, scope_id)
    burst = max(1.0, rate_per_s) if burst is None else burst
    check_rate(rate_per_s, LEAST_PER_S, "/rate_per_s")
    check_rate(burst, 1.0, "/burst")
    row = await SQL.bucket_set.one(uow.raw, tenant_id, scope, scope_id, float(rate_per_s), float(burst))
    if row is None:
        raise Broken("bucket_lost", "the statement gives the row it wrote")
    details = {"rate_per_s": rate_per_s, "burst": burst}
    await append(
        uow, actor, action="rate.set", target=(scope, str(scope_id)), reason=clean_reason(reason), details=details
    )
    return _rate(row)


async def clear(uow: UnitOfWork, actor: Actor, scope: str, scope_id: UUID, *, reason: str = NOT_GIVEN) -> Rate | None:
    """Take a limit away; gives what it was, None when there was none. Audited each time."""
    tenant_id = await _place(uow, scope, scope_id, must_exist=False)
    row = await SQL.bucket_clear.one(uow.raw, tenant_id, scope, scope_id)
    was = {"rate_per_s": row["rate"], "burst": row["cap"]} if row else {}
    await append(
        uow, actor, action="rate.clear", target=(scope, str(scope_id)), reason=clean_reason(reason), details=was
    )
    return _rate(row) if row else None


async def pace(uow: UnitOfWork, campaign_id: UUID, rate_per_s: float | None) -> None:
    """Bound a campaign, or bound it no longer with None. Never more than a second's worth comes together.

    The caller has checked the campaign and audits.
    """
    if rate_per_s is None:
        await SQL.bucket_clear.one(uow.raw, uow.tenant, "campaign", campaign_id)
    else:
        burst = max(1.0, rate_per_s)
        await SQL.bucket_set.one(uow.raw, uow.tenant, "campaign", campaign_id, rate_per_s, burst)


async def listed(uow: UnitOfWork) -> list[Rate]:
    """The limits of the unit of work's tenant."""
    return [_rate(row) for row in await SQL.buckets_of.many(uow.raw, uow.tenant_id)]


async def _place(uow: UnitOfWork, scope: str, scope_id: UUID, *, must_exist: bool = True) -> UUID:
    if uow.tenant_id is None or uow.tenant_id == NIL:
        raise Broken("no_tenant", "a rate needs a unit of work with a tenant")
    if scope not in get_args(Scope):
        raise Refused("unknown_scope", "must be tenant, sender or connection", field="/scope")
    is_known = (
        scope_id == uow.tenant_id
        if scope == "tenant"
        else await SQL.switch_target.value(uow.raw, uow.tenant_id, scope, scope_id)
    )
    if must_exist and not is_known:
        raise Refused("not_found", f"no such {scope}", field="/id", status=404)
    return uow.tenant_id


def check_rate(value: float, least: float, field: str) -> None:
    """Raise Refused(invalid_rate) for what is no number from `least` to a million."""
    if not math.isfinite(value) or not least <= value <= MOST_PER_S:
        raise Refused("invalid_rate", f"must be {least:g} to {MOST_PER_S:,.0f}", field=field)


def _rate(row: asyncpg.Record) -> Rate:
    return Rate(row["scope"], row["scope_id"], row["rate"], row["cap"])
