"""The kill switch and maintenance over HTTP: pausing takes hold before the answer."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec
from litestar import get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody

from outrider.base.errors import Refused
from outrider.base.ids import NIL
from outrider.data.db import Role
from outrider.data.runtime import Runtime
from outrider.domain.limits import maintenance, switches
from outrider.domain.limits.reasons import NOT_GIVEN
from outrider.domain.tenants import tenants
from outrider.interfaces.api.paging import Page
from outrider.interfaces.auth import Principal, needs, needs_installation_admin


class SwitchOut(msgspec.Struct):
    """A scope that is paused: why, by whom and since when."""

    tenant_id: UUID
    scope: str
    id: str
    reason: str
    actor: str
    at: datetime | None


class SwitchState(msgspec.Struct):
    """A scope after the command. `changed` is false when it was so already.

    `took_effect_ms` runs from the request to the end of the last claim that had begun before; `is_settled` is false
    when one took longer than a second (it sees the pause before its next write).
    """

    tenant_id: UUID
    scope: str
    id: str
    is_paused: bool
    reason: str
    actor: str
    at: datetime | None
    changed: bool
    took_effect_ms: float
    is_settled: bool


class SwitchIn(msgspec.Struct, forbid_unknown_fields=True):
    """What to pause or resume.

    scope: installation, tenant, channel, sender or campaign; id: the channel's key or the id of a sender or campaign;
    tenant_id: another tenant than one's own, for administrators of the installation; everywhere: a channel for all
    tenants.
    """

    scope: switches.Scope
    id: Annotated[str, msgspec.Meta(max_length=64)] | None = None
    reason: Annotated[str, msgspec.Meta(max_length=500)] = NOT_GIVEN
    tenant_id: UUID | None = None
    everywhere: bool = False


class MaintenanceIn(msgspec.Struct, forbid_unknown_fields=True):
    """Why."""

    reason: Annotated[str, msgspec.Meta(max_length=500)] = NOT_GIVEN


@get("/switches", guards=[needs("viewer", "switches:read")])
async def listed(principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]) -> Page[SwitchOut]:
    """List what is paused for this tenant, the installation's switches included."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        found = await switches.listed(uow)
    return Page(
        [
            SwitchOut(
                one.tenant_id,
                one.scope,
                one.scope_id,
                one.reason,
                _named(principal, one.actor) if one.tenant_id == NIL else one.actor,
                one.at,
            )
            for one in found
        ]
    )


@post("/switches/pause", status_code=200, guards=[needs("operator", "switches:write")])
async def pause(
    data: JSONBody[SwitchIn], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> SwitchState:
    """Stop sending of a scope; what is queued stays queued. Pausing twice is no error."""
    tenant_id = NIL if data.everywhere else data.tenant_id
    return await switch(runtime, principal, data.scope, data.id, data.reason, is_pause=True, tenant_id=tenant_id)


@post("/switches/resume", status_code=200, guards=[needs("operator", "switches:write")])
async def resume(
    data: JSONBody[SwitchIn], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> SwitchState:
    """Let a scope send again; what is paused at another scope stays paused."""
    tenant_id = NIL if data.everywhere else data.tenant_id
    return await switch(runtime, principal, data.scope, data.id, data.reason, is_pause=False, tenant_id=tenant_id)


@get("/maintenance", guards=[needs("viewer", "switches:read")])
async def maintenance_state(
    principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> maintenance.Maintenance:
    """Say whether maintenance is on, since when and why."""
    async with runtime.db.uow(Role.APP) as uow:
        state = await maintenance.read(uow)
    return msgspec.structs.replace(state, actor=_named(principal, state.actor)) if state.actor else state


@post("/maintenance/on", status_code=200, guards=[needs("viewer", "switches:write"), needs_installation_admin])
async def maintenance_on(
    data: JSONBody[MaintenanceIn], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> maintenance.Maintenance:
    """Stop all sending while the operator works on the installation."""
    async with runtime.db.uow(Role.ENGINE) as uow:
        state = await maintenance.maintenance_on(uow, principal.actor, data.reason)
    await switches.settle(runtime.db, "installation", NIL, str(NIL))
    return state


@post("/maintenance/off", status_code=200, guards=[needs("viewer", "switches:write"), needs_installation_admin])
async def maintenance_off(
    data: JSONBody[MaintenanceIn], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> maintenance.Maintenance:
    """End maintenance; what is paused by a switch stays paused."""
    async with runtime.db.uow(Role.ENGINE) as uow:
        return await maintenance.maintenance_off(uow, principal.actor, data.reason)


async def switch(
    runtime: Runtime,
    principal: Principal,
    scope: str,
    scope_id: str | None,
    reason: str,
    *,
    is_pause: bool,
    tenant_id: UUID | None = None,
) -> SwitchState:
    """Pause or resume in one transaction, then wait until it holds.

    Takes:   tenant_id: None for the caller's own; another's, or NIL, only for administrators of the installation.
    Raises:  Refused(forbidden, 403) for the installation's scopes, Refused(not_found, 404) for another's tenant.
    """
    begun_s = time.monotonic()
    place = NIL if scope == "installation" else tenant_id or principal.tenant_id
    if place == NIL and principal.is_installation_admin and scope not in {"installation", "channel"}:
        raise Refused("not_found", "no such tenant", field="/tenant_id", status=404)
    if place == NIL and not principal.is_installation_admin:
        raise Refused("forbidden", "only administrators of the installation may do this", status=403)
    if place != principal.tenant_id and not principal.is_installation_admin:
        raise Refused("not_found", "no such tenant", field="/tenant_id", status=404)
    if scope == "channel" and is_pause and scope_id and scope_id not in runtime.channels:
        raise Refused("not_found", f"must be one of {', '.join(runtime.channels)}", field="/id", status=404)
    async with runtime.db.uow(Role.APP, place) as uow:
        if place != NIL:
            await tenants.get(uow, place)
        verb = switches.pause if is_pause else switches.resume
        found = await verb(uow, principal.actor, scope, scope_id, reason)
    is_settled = not is_pause or await switches.settle(runtime.db, found.scope, found.tenant_id, found.scope_id)
    return SwitchState(
        tenant_id=found.tenant_id,
        scope=found.scope,
        id=found.scope_id,
        is_paused=found.is_paused,
        reason=found.reason,
        actor=found.actor,
        at=found.at,
        changed=found.changed,
        took_effect_ms=round((time.monotonic() - begun_s) * 1000, 1),
        is_settled=is_settled,
    )


def _named(principal: Principal, actor: str | None) -> str:
    """Who decided for the installation, as this caller may know it: tenants do not learn of each other's people."""
    return actor or "" if principal.is_installation_admin else "installation"


ROUTES = [listed, pause, resume, maintenance_state, maintenance_on, maintenance_off]
