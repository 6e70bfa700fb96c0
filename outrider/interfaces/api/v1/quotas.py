"""Quotas of open messages: one's own, and for administrators of the installation everybody's."""

from __future__ import annotations

from uuid import UUID

import msgspec
from litestar import get, put
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from outrider.base.ids import parse_id
from outrider.data.db import Role
from outrider.data.runtime import Runtime
from outrider.domain.limits.reasons import NOT_GIVEN, clean_reason
from outrider.domain.messages import fills
from outrider.interfaces.auth import Principal, needs, needs_installation_admin


class QuotaOut(msgspec.Struct):
    """A quota and how full it is, as of a second ago.

    open_count  messages that wait, of both classes; bulk ones are taken while it is below `bulk_most`, transactional
                ones while it is below `most`; `takes` names the classes of which one more would be taken now
    is_own      set for it; else the preset, or for a tenant what holds for every tenant
    """

    open_count: int
    transactional: int
    bulk: int
    most: int
    bulk_most: int
    ratio: float
    takes: list[str]
    is_own: bool


class TenantQuotaOut(QuotaOut):
    """A tenant's."""

    tenant_id: UUID
    name: str


class QuotasOut(msgspec.Struct):
    """The installation's quota, what holds for tenants without one of their own, and the twenty fullest tenants."""

    installation: QuotaOut
    tenant_most: int
    bulk_percent: int
    tenants: list[TenantQuotaOut]


class QuotaIn(msgspec.Struct, forbid_unknown_fields=True):
    """How many messages of a tenant may be waiting; null: what holds for every tenant."""

    most: int | None
    reason: str = NOT_GIVEN


class InstallationIn(msgspec.Struct, forbid_unknown_fields=True):
    """What holds for everybody; what is not named stays, null goes back to the preset.

    most          messages of all tenants that may be waiting
    tenant_most   of one tenant, where it has no quota of its own
    bulk_percent  up to which share of a quota bulk messages are taken; the rest is kept for transactional ones
    """

    most: int | msgspec.UnsetType | None = msgspec.UNSET
    tenant_most: int | msgspec.UnsetType | None = msgspec.UNSET
    bulk_percent: int | msgspec.UnsetType | None = msgspec.UNSET
    reason: str = NOT_GIVEN


@get("/quota", guards=[needs("viewer", "limits:read")])
async def own(principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]) -> QuotaOut:
    """Show how many messages of this tenant may be waiting, and how many are."""
    async with runtime.db.uow(Role.ENGINE, principal.tenant_id) as uow:
        return _quota(await fills.of_tenant(uow))


@get("/quotas", guards=[needs("admin", "limits:read"), needs_installation_admin])
async def listed(runtime: NamedDependency[Runtime]) -> QuotasOut:
    """Show the installation's quota and the tenants that fill theirs the most (administrators of the installation)."""
    async with runtime.db.uow(Role.ENGINE) as uow:
        return _all(await fills.installation(uow.raw), await fills.fullest(uow.raw))


@put("/quotas/installation", guards=[needs("admin", "limits:write"), needs_installation_admin])
async def set_for_all(
    data: JSONBody[InstallationIn], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> QuotasOut:
    """Change what holds for everybody; at once, and what waits already stays (administrators of the installation)."""
    async with runtime.db.uow(Role.ENGINE) as uow:
        change = fills.Change(data.most, data.tenant_most, data.bulk_percent)
        found = await fills.set_for_all(uow, principal.actor, change, reason=clean_reason(data.reason))
        return _all(found, await fills.fullest(uow.raw))


@put("/quotas/tenants/{tenant_id:str}", guards=[needs("admin", "limits:write"), needs_installation_admin])
async def set_for_tenant(
    tenant_id: FromPath[str],
    data: JSONBody[QuotaIn],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
) -> QuotaOut:
    """Set a tenant's quota; at once, and what waits already stays (administrators of the installation)."""
    place = parse_id(tenant_id, "tenant_id")
    async with runtime.db.uow(Role.ENGINE, place) as uow:
        await fills.set_for_tenant(uow, principal.actor, place, data.most, reason=clean_reason(data.reason))
        return _quota(await fills.of_tenant(uow))


def _all(found: fills.Installation, fullest: list[fills.TenantFill]) -> QuotasOut:
    tenants = [
        TenantQuotaOut(**msgspec.structs.asdict(_quota(each.fill)), tenant_id=each.tenant_id, name=each.name)
        for each in fullest
    ]
    return QuotasOut(_quota(found.fill), found.tenant_most, found.bulk_percent, tenants)


def _quota(fill: fills.Fill) -> QuotaOut:
    return QuotaOut(
        fill.open_count, fill.transactional, fill.bulk, fill.most, fill.bulk_most, round(fill.ratio, 4), fill.takes,
        fill.is_own,
    )  # fmt: skip


ROUTES = [own, listed, set_for_all, set_for_tenant]
