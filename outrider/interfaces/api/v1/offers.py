"""Lists on offer: what people may turn on and off themselves in the preference centre and on sign-up forms."""

from __future__ import annotations

from typing import Annotated

import msgspec
from litestar import delete, get, put
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from outrider.base.ids import parse_id
from outrider.data.db import Role
from outrider.data.runtime import Runtime
from outrider.domain.contacts import offers
from outrider.domain.contacts.offers import OfferView
from outrider.interfaces.api.paging import Page
from outrider.interfaces.auth import Principal, needs


class OfferIn(msgspec.Struct, forbid_unknown_fields=True):
    """What people read about a list; lists with a lower `place` stand first."""

    title: Annotated[str, msgspec.Meta(min_length=1, max_length=offers.LONGEST_TITLE)]
    description: Annotated[str, msgspec.Meta(max_length=offers.LONGEST_DESCRIPTION)] = ""
    place: Annotated[int, msgspec.Meta(ge=0, le=10_000)] = 0


@get("/offers", guards=[needs("viewer", "contacts:read")])
async def listed(principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]) -> Page[OfferView]:
    """List the lists on offer, at most 100, in the order in which people see them."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return Page(await offers.listed(uow), None)


@put("/lists/{list_id:str}/offer", guards=[needs("operator", "contacts:write")])
async def offered(
    list_id: FromPath[str],
    data: JSONBody[OfferIn],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
) -> OfferView:
    """Offer a list publicly, or say something else about it."""
    told = offers.OfferIn(data.title, data.description, data.place)
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await offers.offer(uow, principal.actor, parse_id(list_id, "list_id"), told)


@delete("/lists/{list_id:str}/offer", status_code=204, guards=[needs("operator", "contacts:write")])
async def withdrawn(
    list_id: FromPath[str], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> None:
    """Offer a list no more: it leaves the preference centre and every form; who is on it stays."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        await offers.withdraw(uow, principal.actor, parse_id(list_id, "list_id"))


ROUTES = [listed, offered, withdrawn]
