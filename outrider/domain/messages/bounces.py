"""Soft bounces: what came back for now, counted once per message until it is too much for an address.

Owns table `soft_bounces` and the policy, whose numbers are the tenant's settings: so many within so many days, on so
many different ones, and no delivery in between. A delivery is one that was reported, or a message handed over that
nobody sent back within the days for which mail servers go on trying (RFC 5321 4.5.4.1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import asyncpg
import msgspec
import orjson
import structlog

from outrider.base.clock import utc_now
from outrider.base.ids import first_id_at
from outrider.contracts.actor import Actor
from outrider.data.db import UnitOfWork
from outrider.domain.contacts import read, suppressions
from outrider.domain.contacts.suppressions import Entry, Reason
from outrider.domain.messages.rows import BOUNCES as SQL
from outrider.domain.tenants.policies import BOUNCE_FIELDS
from outrider.domain.tenants.rows import SQL as TENANTS

KEEP_DAYS: Final = 366
"""No tenant's policy looks further back."""

_log = structlog.get_logger(__name__)
_ACTOR: Final = Actor("system", "bounces")
_SOURCE: Final = "bounces"
_ERASED: Final = "erased"
"""In the place of an address, once its person was erased."""
_SILENCE_DAYS: Final = 5
_LONGEST_DETAIL: Final = 240
_LATEST = timedelta(days=31)
"""So long before its sending a message may have been accepted and still count as a delivery."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A message that a provider did not take, and what follows for its address: listed for a reason, or counted."""

    message_id: UUID
    cause: str
    detail: str
    suppress: str
    is_soft: bool


@dataclass(frozen=True, slots=True)
class SoftBounce:
    """A message that came back for now; `at` None: at this moment."""

    message_id: UUID
    channel: str
    address: str
    at: datetime | None
    cause: str
    detail: str


class SoftBounceView(msgspec.Struct, frozen=True):
    """A message that came back for now. `is_used`: an entry of the do-not-contact list was made of it and others."""

    message_id: UUID
    channel: str
    address: str
    at: datetime
    cause: str
    detail: str
    is_used: bool


async def failed(raw: asyncpg.Connection, tenant_id: UUID, given: Sequence[Failure]) -> None:
    """Draw the consequences of messages that failed at once: some are listed, soft ones are counted (engine role)."""
    ids = [each.message_id for each in given]
    places = {row["id"]: row for row in await SQL.reached_at.many(raw, tenant_id, ids, min(ids), max(ids))}
    hard: list[Entry] = []
    soft: list[SoftBounce] = []
    for each in given:
        place = places.get(each.message_id)
        if place is None:
            continue
        whom = (place["channel"], place["address"])
        if each.suppress:
            reason, note = suppressions.reason_of(each.suppress), each.detail[:_LONGEST_DETAIL]
            hard.append(Entry(*whom, "all", reason, note, source="refused"))
        else:
            soft.append(SoftBounce(each.message_id, *whom, None, each.cause, each.detail))
    await follow(raw, tenant_id, hard, soft)


async def count(raw: asyncpg.Connection, tenant_id: UUID, bounced: Sequence[SoftBounce]) -> int:
    """Count soft bounces, each message once, and list the addresses for which it is too much (engine role).

    Takes:   1..1000 of them, in any order, also such that were counted before.
    Gives:   how many addresses were listed.
    """
    return await follow(raw, tenant_id, [], bounced)


async def follow(
    raw: asyncpg.Connection, tenant_id: UUID, entries: Sequence[Entry], bounced: Sequence[SoftBounce]
) -> int:
    """List addresses, and count soft bounces as `count` does; the order of locks is that of decisions/0006.

    Takes:   entries with their source; all that a transaction lists, after its money.
    Gives:   how many addresses are listed for soft bounces.
    """
    over = await _over(raw, tenant_id, bounced)
    wanted = suppressions.strongest([*entries, *over])
    listed = await suppressions.record_all(raw, tenant_id, _ACTOR, wanted, source=_SOURCE) if wanted else set()
    if not over:
        return 0
    channels, addresses = [each.channel for each in over], [each.address for each in over]
    await SQL.soft_bounces_used.run(raw, tenant_id, channels, addresses)
    many = len(listed & set(zip(channels, addresses, strict=True)))
    _log.info("soft_bounces_listed", tenant=str(tenant_id), addresses=many)
    return many


async def _over(raw: asyncpg.Connection, tenant_id: UUID, bounced: Sequence[SoftBounce]) -> list[Entry]:
    """Count soft bounces; gives an entry of each address for which it is too much."""
    counted = [each for each in bounced if each.address not in {"", _ERASED}]
    row = await TENANTS.tenant_get.one(raw, tenant_id) if counted else None
    policy = _policy(row["settings"]) if row is not None else {}
    if not policy.get("soft_bounce_limit"):
        return []
    await SQL.soft_bounces_lock.run(raw, tenant_id)
    await SQL.soft_bounces_add.run(
        raw, tenant_id, [each.message_id for each in counted], [each.channel for each in counted],
        [each.address for each in counted], [each.at for each in counted], [each.cause for each in counted],
        [each.detail[:_LONGEST_DETAIL] for each in counted],
    )  # fmt: skip
    days = policy["soft_bounce_days"]
    since = first_id_at(utc_now() - timedelta(days=days) - _LATEST)
    over = await SQL.soft_bounced_out.many(
        raw, tenant_id, [each.channel for each in counted], [each.address for each in counted],
        policy["soft_bounce_limit"], days, policy["soft_bounce_least_days"], _SILENCE_DAYS, since,
    )  # fmt: skip
    return [_entry(row, policy) for row in over]


async def of_contact(uow: UnitOfWork, contact_id: UUID, *, limit: int = 100) -> list[SoftBounceView]:
    """What came back for now from a contact's addresses, newest first.

    Raises:  Refused(not_found).
    """
    await read.get(uow, contact_id)
    rows = await SQL.soft_bounces_of.many(uow.raw, uow.tenant, contact_id, limit)
    return [SoftBounceView(**dict(row)) for row in rows]


def _policy(given: str) -> dict[str, Any]:
    settings: Mapping[str, Any] = orjson.loads(given)
    return {field.name: settings.get(field.name, field.default) for field in BOUNCE_FIELDS}


def _entry(row: asyncpg.Record, policy: Mapping[str, Any]) -> Entry:
    """The entry of an address, with the story in words."""
    hold_days = policy["soft_bounce_hold_days"]
    reason: Reason = "soft_bounce"
    note = (
        f"{row['n']} soft bounces on {row['days']} days from {row['first_at']:%Y-%m-%d} to {row['last_at']:%Y-%m-%d}, "
        f"none delivered in between; the last: {row['detail'] or 'no reason given'}"
    )
    expires_at = row["now"] + timedelta(days=hold_days) if hold_days else None
    return Entry(row["channel"], row["address"], policy["soft_bounce_scope"], reason, note, expires_at)
