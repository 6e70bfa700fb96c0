"""The runbooks' own paths, with their bodies and status words; every one has a successor below /api/v1."""

from __future__ import annotations

from litestar import post
from litestar.di import NamedDependency
from litestar.params import FromPath

from outrider.base.ids import parse_id
from outrider.data.runtime import Runtime
from outrider.domain.limits.reasons import NOT_GIVEN
from outrider.interfaces.api.v1.switches import SwitchState, switch
from outrider.interfaces.auth import Principal, needs


@post("/tenants/{tenant_id:str}/pause", status_code=200, guards=[needs("operator", "switches:write")])
async def pause(
    tenant_id: FromPath[str], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> SwitchState:
    """Stop all sending of a tenant: session cookie, no body [S1-11]; as `POST /api/v1/switches/pause`."""
    return await switch(
        runtime, principal, "tenant", None, NOT_GIVEN, is_pause=True, tenant_id=parse_id(tenant_id, "tenant_id")
    )


@post("/tenants/{tenant_id:str}/resume", status_code=200, guards=[needs("operator", "switches:write")])
async def resume(
    tenant_id: FromPath[str], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> SwitchState:
    """Let a tenant send again: session cookie, no body [S1-14]; as `POST /api/v1/switches/resume`."""
    return await switch(
        runtime, principal, "tenant", None, NOT_GIVEN, is_pause=False, tenant_id=parse_id(tenant_id, "tenant_id")
    )


ROUTES = [pause, resume]
