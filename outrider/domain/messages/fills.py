"""How full the quotas of open messages are; setting them; counting anew what is open.

Owns what operators see and change. Who is let in is quota.py; counting from moment to moment is the fold's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

import asyncpg
import msgspec
import structlog
from msgspec import UNSET, UnsetType

from outrider.base.errors import Broken, Refused
from outrider.contracts.actor import Actor
from outrider.data.db import UnitOfWork
from outrider.domain.audit.append import append
from outrider.domain.limits.rows import SQL as LIMITS
from outrider.domain.messages.quota import bounds, read
from outrider.domain.messages.rows import CHECKS, QUOTA
from outrider.domain.tenants.rows import SQL as TENANTS

LARGEST: Final = 10**12
_RECOUNTED_S: Final = 3_300.0
_log = structlog.get_logger(__name__)


class Fill(msgspec.Struct, frozen=True):
    """How full a quota is. Bulk messages are taken while fewer than `bulk_most` are open, transactional up to `most`.

    `is_own`: set for it; else the preset, or for a tenant what holds for every tenant.
    """

    transactional: int
    bulk: int
    most: int
    bulk_most: int
    is_own: bool

    @property
    def open_count(self) -> int:
        """Open messages of both classes."""
        return self.transactional + self.bulk

    @property
    def ratio(self) -> float:
        """The share of the quota that is filled; above 1 after it was lowered."""
        return self.open_count / self.most if self.most else float(self.open_count > 0)

    @property
    def takes(self) -> list[str]:
        """The classes of which one more message would be taken."""
        bounds = (("transactional", self.most), ("bulk", self.bulk_most))
        return [name for name, most in bounds if self.open_count < most]


class TenantFill(msgspec.Struct, frozen=True):
    """How full a tenant's quota is."""

    tenant_id: UUID
    name: str
    fill: Fill


class Installation(msgspec.Struct, frozen=True):
    """What holds for everybody: how many messages may be open in all, of a tenant, and the share of bulk in both."""

    fill: Fill
    tenant_most: int
    bulk_percent: int


async def installation(raw: asyncpg.Connection) -> Installation:
    """The installation's quota and how full it is, as of the last fold (engine role); cheap."""
    row = await QUOTA.open_in_all.one(raw)
    if row is None:
        raise Broken("installation_missing", "the table `installation` has lost its row")
    tenant_most, most, percent = bounds(row)
    is_own = row["most_in_all"] is not None
    return Installation(_fill(row, most, percent, is_own=is_own), tenant_most, percent)


async def of_tenant(uow: UnitOfWork) -> Fill:
    """The quota of the unit of work's tenant and how full it is, as of the last fold (engine role)."""
    row = await QUOTA.open_room.one(uow.raw, uow.tenant)
    if row is None:
        raise Refused("not_found", "no such tenant", status=404)
    room = read(row)
    return _fill(row, room.tenant.most, room.tenant.bulk_percent, is_own=row["own_most"] is not None)


async def fullest(raw: asyncpg.Connection, *, limit: int = 20) -> list[TenantFill]:
    """The tenants whose quotas are the fullest, and those that have one of their own (engine role)."""
    everybody = await installation(raw)
    rows = await QUOTA.open_fullest.many(raw, everybody.tenant_most, limit)
    found = []
    for row in rows:
        is_own = row["own_most"] is not None
        most = row["own_most"] if is_own else everybody.tenant_most
        found.append(TenantFill(row["id"], row["name"], _fill(row, most, everybody.bulk_percent, is_own=is_own)))
    return found


def _fill(row: asyncpg.Record, most: int, percent: int, *, is_own: bool) -> Fill:
    # between two folds more may have gone than was counted as come
    return Fill(max(0, row["transactional"]), max(0, row["bulk"]), most, most * percent // 100, is_own)


async def set_for_tenant(uow: UnitOfWork, actor: Actor, tenant_id: UUID, most: int | None, *, reason: str) -> None:
    """Set how many messages of a tenant may be open; None: as many as the installation says. Audited.

    Takes:   a unit of work of the engine role. A lower quota than is used takes nothing back: nothing more is let in.
    Raises:  Refused(not_found, invalid_quota).
    """
    _check(most, "/most")
    was = await TENANTS.tenant_quota_set.value(uow.raw, tenant_id, most)
    if was is None:
        raise Refused("not_found", "no such tenant", field="/tenant", status=404)
    details = {"most": [None if was < 0 else was, most]}
    target = ("tenant", str(tenant_id))
    await append(uow, actor, action="quota.set", target=target, reason=reason, details=details, tenant_id=tenant_id)


@dataclass(frozen=True, slots=True)
class Change:
    """A change of what holds for everybody; None goes back to the preset, what is not named stays."""

    most: int | UnsetType | None = UNSET
    tenant_most: int | UnsetType | None = UNSET
    bulk_percent: int | UnsetType | None = UNSET
    fields: dict[str, str] = field(default_factory=dict)
    """How the caller named them, where not so."""


async def set_for_all(uow: UnitOfWork, actor: Actor, change: Change, *, reason: str) -> Installation:
    """Change what holds for everybody; holds from the next admission on. Audited in the installation's chain.

    Takes:   a unit of work of the engine role without tenant.
    Raises:  Refused(invalid_quota).
    """
    row = await LIMITS.quota_of_all_lock.one(uow.raw)
    if row is None:
        raise Broken("installation_missing", "the table `installation` has lost its row")
    before = {
        "most": row["open_most"],
        "tenant_most": row["tenant_open_most"],
        "bulk_percent": row["open_bulk_percent"],
    }
    after: dict[str, int | None] = {}
    for name, old in before.items():
        given = getattr(change, name)
        after[name] = old if isinstance(given, UnsetType) else given
        place = change.fields.get(name, f"/{name}")
        if name == "bulk_percent":
            _check(after[name], place, least=1, most=100)
        else:
            _check(after[name], place)
    await LIMITS.quota_of_all_set.run(uow.raw, after["most"], after["tenant_most"], after["bulk_percent"])
    details = {name: [before[name], after[name]] for name in before if before[name] != after[name]}
    await append(uow, actor, action="quota.set", target=("installation", "quota"), reason=reason, details=details)
    return await installation(uow.raw)


def _check(value: int | None, place: str, *, least: int = 0, most: int = LARGEST) -> None:
    if value is not None and not least <= value <= most:
        raise Refused("invalid_quota", f"must be {least:,} to {most:,}", field=place)


async def recount(uow: UnitOfWork) -> list[UUID]:
    """Count every open message anew, unless that was done within the hour (engine role, without tenant).

    Counts cannot drift by themselves; a release that knows nothing of them folds without counting. Reads the whole
    queue once, and folding waits meanwhile.

    Gives:   the tenants whose counts were wrong.
    """
    await CHECKS.unhurried.run(uow.raw)
    if not await QUOTA.recount_turn.value(uow.raw, _RECOUNTED_S):
        return []
    rows = await QUOTA.recount.many(uow.raw)
    for row in rows:
        _log.warning(
            "open_counts_mended", tenant=str(row["tenant_id"]), transactional=row["transactional"], bulk=row["bulk"]
        )
    return [row["tenant_id"] for row in rows]
