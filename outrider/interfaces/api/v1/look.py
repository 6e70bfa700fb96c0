"""How the tenant's public pages look: a name, a logo, two colours, a footer."""

from __future__ import annotations

from typing import Annotated

import msgspec
from litestar import delete, get, patch, put
from litestar.di import NamedDependency
from litestar.params import JSONBody

from outrider.data.db import Role
from outrider.data.runtime import Runtime
from outrider.domain.limits.reasons import NOT_GIVEN, clean_reason
from outrider.domain.tenants import looks
from outrider.domain.tenants.looks import LookChange, LookView
from outrider.interfaces.auth import Principal, needs


class LookIn(msgspec.Struct, forbid_unknown_fields=True):
    """What shall be different; what is not named stays, an empty text goes back to the pages' own.

    `colour` is read on white, `colour_dark` on the dark page of the night; both as #rrggbb with a contrast of 4.5.
    """

    display_name: Annotated[str, msgspec.Meta(max_length=80)] | None = None
    colour: Annotated[str, msgspec.Meta(max_length=7)] | None = None
    colour_dark: Annotated[str, msgspec.Meta(max_length=7)] | None = None
    footer: Annotated[str, msgspec.Meta(max_length=600)] | None = None
    reason: Annotated[str, msgspec.Meta(max_length=500)] = NOT_GIVEN


class LogoIn(msgspec.Struct, forbid_unknown_fields=True):
    """A PNG or JPEG file in base64: at most 64 KiB and 1600 x 1600 pixels."""

    picture: Annotated[bytes, msgspec.Meta(min_length=1, max_length=looks.MOST_LOGO_BYTES)]


@get("/look", guards=[needs("viewer", "tenant:read")])
async def shown(principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]) -> LookView:
    """Show how the public pages look."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await looks.get(uow)


@patch("/look", guards=[needs("admin", "tenant:write")])
async def changed(
    data: JSONBody[LookIn], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> LookView:
    """Change how the public pages look."""
    change = LookChange(data.display_name, data.colour, data.colour_dark, data.footer)
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await looks.change(uow, principal.actor, change, reason=clean_reason(data.reason))


@put("/look/logo", guards=[needs("admin", "tenant:write")])
async def logo_set(
    data: JSONBody[LogoIn], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> LookView:
    """Show a picture above every public page."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await looks.set_logo(uow, principal.actor, data.picture)


@delete("/look/logo", status_code=200, guards=[needs("admin", "tenant:write")])
async def logo_removed(principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]) -> LookView:
    """Show no picture."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await looks.set_logo(uow, principal.actor, None)


ROUTES = [shown, changed, logo_set, logo_removed]
