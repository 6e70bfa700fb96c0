"""Local times: everybody gets a campaign when their own clock shows an hour, by the zones the database knows.

Owns who is in which zone and when an hour comes there. The zone is a contact's own, else what the attribute says that
the campaign names, else the campaign's fallback, else the tenant's; a name the database does not know counts as none.
Where clocks go forward over the hour, it comes as many minutes after the gap as it was named after its begin; where it
comes twice, the second one counts.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from outrider.base.errors import Refused
from outrider.data.db import UnitOfWork
from outrider.domain.campaigns.delivery import LocalTime
from outrider.domain.campaigns.rows import DELIVERY as SQL
from outrider.domain.messages.fan_out import Hours
from outrider.domain.segments import rules, segments

LAST = timedelta(hours=12)
"""How far zones are behind UTC at most."""
_AHEAD = timedelta(days=366)


class LocalTimes(msgspec.Struct, frozen=True):
    """Who has the hour when. without_zone_count: contacts of whom no known zone is stored; late_count: past it now."""

    member_count: int
    first_at: datetime
    last_at: datetime
    zone_count: int
    without_zone_count: int
    late_count: int


async def check(uow: UnitOfWork, rule: LocalTime, now: datetime) -> None:
    """Refuse an hour that is over everywhere or too far away, and a zone that the database does not know.

    Raises:  Refused(not_ahead, unknown_timezone).
    """
    if not now - LAST < rule.at.replace(tzinfo=UTC) <= now + _AHEAD:
        message = "must be ahead somewhere in the world, and at most 366 days"
        raise Refused("not_ahead", message, field="/local_time/at")
    if rule.fallback_zone is not None and rule.fallback_zone.lower() not in await _zones(uow.raw, rule):
        message = "must be a name like Europe/Berlin"
        raise Refused("unknown_timezone", message, field="/local_time/fallback_zone")


async def hours(raw: asyncpg.Connection, tenant_id: UUID, rule: LocalTime) -> Hours:
    """When the hour comes in every zone, for the fan-out."""
    zones = await _zones(raw, rule)
    due_s = {name: due_at.timestamp() for name, due_at in zones.items()}
    else_at = await _else_at(raw, tenant_id, rule, zones)
    return Hours(msgspec.json.encode(due_s).decode(), else_at, rule.attribute, rule.late == "skip")


async def found(uow: UnitOfWork, rule: LocalTime, audience: rules.Rule, now: datetime) -> LocalTimes:
    """Who of an audience has the hour when; the audience's rules are checked already."""
    zones = await _zones(uow.raw, rule)
    else_at = await _else_at(uow.raw, uow.tenant, rule, zones)
    within = segments.COUNT_WITHIN_MS
    own: tuple[Any, ...] = (uow.tenant, rule.attribute)
    rows = await segments.settled(uow, SQL.zones_of_rules, audience, *own, now=now, within_ms=within)
    moments = [(zones.get(row["zone"] or ""), row["n"]) for row in rows]
    dues = [due or else_at for due, _ in moments] or [else_at]
    return LocalTimes(
        member_count=sum(n for _, n in moments),
        first_at=min(dues),
        last_at=max(dues),
        zone_count=sum(due is not None for due, _ in moments),
        without_zone_count=sum(n for due, n in moments if due is None),
        late_count=sum(n for due, n in moments if (due or else_at) < now),
    )


async def _zones(raw: asyncpg.Connection, rule: LocalTime) -> dict[str, datetime]:
    return {row["name"]: row["due_at"] for row in await SQL.zones.many(raw, rule.at)}


async def _else_at(raw: asyncpg.Connection, tenant_id: UUID, rule: LocalTime, zones: dict[str, datetime]) -> datetime:
    """For those of whom no zone is known: the campaign's fallback, else the tenant's zone, else UTC."""
    zone = rule.fallback_zone.lower() if rule.fallback_zone else await SQL.tenant_zone.value(raw, tenant_id)
    return zones.get(zone or "", rule.at.replace(tzinfo=UTC))
