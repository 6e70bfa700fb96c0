"""Send rates of a tenant, of its senders and of its connections."""

from __future__ import annotations

import msgspec
from litestar import delete, get, put
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from outrider.base.ids import parse_id
from outrider.data.db import Role
from outrider.data.runtime import Runtime
from outrider.domain.limits import buckets
from outrider.domain.limits.reasons import NOT_GIVEN
from outrider.interfaces.api.paging import Page
from outrider.interfaces.auth import Principal, needs


class RateIn(msgspec.Struct, forbid_unknown_fields=True):
    """At most `rate_per_s` on average and `burst` at once (by default one second's worth)."""

    rate_per_s: float
    burst: float | None = None
    reason: str = NOT_GIVEN


@get("/limits", guards=[needs("viewer", "limits:read")])
async def listed(principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]) -> Page[buckets.Rate]:
    """List the send rates of this tenant, its senders and its connections; what is not listed is unlimited."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return Page(await buckets.listed(uow))


@put("/limits/{kind:str}/{scope_id:str}", guards=[needs("admin", "limits:write")])
async def set_rate(
    kind: FromPath[str],
    scope_id: FromPath[str],
    data: JSONBody[RateIn],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
) -> buckets.Rate:
    """Limit the tenant (`/limits/tenant/{its id}`), a sender (`sender/{id}`) or a connection (`connection/{id}`)."""
    identifier = parse_id(scope_id, "scope_id")
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await buckets.set_rate(
            uow, principal.actor, kind, identifier, data.rate_per_s, data.burst, reason=data.reason
        )


@delete("/limits/{kind:str}/{scope_id:str}", status_code=204, guards=[needs("admin", "limits:write")])
async def clear(
    kind: FromPath[str],
    scope_id: FromPath[str],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
) -> None:
    """Take a limit away."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        await buckets.clear(uow, principal.actor, kind, parse_id(scope_id, "scope_id"))


ROUTES = [listed, set_rate, clear]
