"""Rates of destinations: how fast a tenant sends to a mail domain, or texts to a country."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

import msgspec
from litestar import delete, get, put
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody

from outrider.base.errors import Refused
from outrider.base.ids import NIL
from outrider.data.db import Role
from outrider.data.runtime import Runtime
from outrider.domain.limits import destinations
from outrider.domain.limits.reasons import NOT_GIVEN
from outrider.domain.messages import holds
from outrider.interfaces.api.paging import Page
from outrider.interfaces.auth import Principal, needs


class DestinationIn(msgspec.Struct, forbid_unknown_fields=True):
    """At most `rate_per_s` on average and `burst` at once (by default one second's worth).

    `installation`: for every tenant without a rate of its own; only administrators of the installation may.
    """

    rate_per_s: float
    burst: float | None = None
    installation: bool = False
    reason: str = NOT_GIVEN


@get("/limits/destinations", guards=[needs("viewer", "limits:read")])
async def listed(
    principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> Page[destinations.DestinationRate]:
    """List the rates of destinations that hold for this tenant, the installation's included."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return Page(await destinations.listed(uow))


@put("/limits/destinations/{channel:str}/{destination:str}", guards=[needs("admin", "limits:write")])
async def set_rate(
    channel: FromPath[str],
    destination: FromPath[str],
    data: JSONBody[DestinationIn],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
) -> destinations.DestinationRate:
    """Limit a mail domain (`email/gmail.com`), or texts to a country (`sms/AU`); what it held is asked about again."""
    place = _place(principal, is_installation=data.installation)
    async with runtime.db.uow(Role.ENGINE, place) as uow:
        made, whose = await destinations.set_rate(
            uow, principal.actor, channel, destination, data.rate_per_s, data.burst, reason=data.reason
        )
    await _release(runtime, whose, made.destination)
    return made


@delete(
    "/limits/destinations/{channel:str}/{destination:str}",
    status_code=204,
    guards=[needs("admin", "limits:write")],
)
async def clear(
    channel: FromPath[str],
    destination: FromPath[str],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
    installation: FromQuery[bool] = False,  # noqa: FBT002 - the framework passes every argument by name
) -> None:
    """Take a rate away; a tenant's own gives place to the installation's."""
    async with runtime.db.uow(Role.ENGINE, _place(principal, is_installation=installation)) as uow:
        _was, whose = await destinations.clear(uow, principal.actor, channel, destination)
    await _release(runtime, whose, destinations.clean(channel, destination))


def _place(principal: Principal, *, is_installation: bool) -> UUID:
    if is_installation and not principal.is_installation_admin:
        raise Refused("forbidden", "only administrators of the installation may do this", status=403)
    return NIL if is_installation else principal.tenant_id


async def _release(runtime: Runtime, whose: Iterable[UUID], destination: str) -> None:
    """What the rate before held is judged by the one that holds now."""
    for tenant_id in whose:
        async with runtime.db.uow(Role.ENGINE, tenant_id) as uow:
            await holds.release(uow, f"{destinations.GATE}: {destination}")


ROUTES = [listed, set_rate, clear]
