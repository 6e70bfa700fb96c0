"""Budgets and prices: what may be spent per day and month, what is spent, and what messages cost."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec
from litestar import delete, get, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody

from outrider.base.errors import Refused
from outrider.base.ids import NIL, parse_id
from outrider.data.db import Role
from outrider.data.runtime import Runtime
from outrider.domain.contacts.channels import channel_of
from outrider.domain.limits import budgets, prices
from outrider.domain.limits.reasons import NOT_GIVEN
from outrider.domain.messages import holds
from outrider.interfaces.api.paging import Cursor, Limit, Page, cursor_of, page, read_cursor
from outrider.interfaces.auth import Principal, needs

Reason = Annotated[str, msgspec.Meta(max_length=500)]


class BudgetIn(msgspec.Struct, forbid_unknown_fields=True):
    """Both limits in whole cents of the tenant's currency; null is no limit."""

    daily_cents: int | None
    monthly_cents: int | None
    reason: Reason = NOT_GIVEN


class ResetIn(msgspec.Struct, forbid_unknown_fields=True):
    """What is counted from nothing again."""

    period: budgets.Period = "day"
    reason: Reason = NOT_GIVEN


class PriceIn(msgspec.Struct, forbid_unknown_fields=True):
    """What one part of a message costs, in millionths of the currency, from `valid_from` on (default: now).

    country: ISO 3166 code, empty for every country without a price of its own; installation: for every tenant, for
    administrators of the installation.
    """

    channel: Annotated[str, msgspec.Meta(max_length=40)]
    micros: int
    country: Annotated[str, msgspec.Meta(max_length=2)] = ""
    valid_from: datetime | None = None
    installation: bool = False
    reason: Reason = NOT_GIVEN


@get("/budgets", guards=[needs("viewer", "limits:read")])
async def listed(principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]) -> Page[budgets.Budget]:
    """List the budget of this tenant and those of its campaigns, with what is spent in this day and month."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return Page(await budgets.listed(uow))


@get("/budgets/events", guards=[needs("viewer", "limits:read")])
async def events(
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
    limit: FromQuery[Limit] = 50,
    cursor: FromQuery[Cursor] = "",
) -> Page[budgets.BudgetEvent]:
    """List which budgets were used up to 50, 80, 90 or 100 percent, the newest first."""
    before = read_cursor(cursor, budgets.Place)
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        items = await budgets.events(uow, limit=limit, before=before)
    return page(items, limit, cursor_of(*budgets.place_of(items[-1])) if items else "")


@put("/budgets/{kind:str}/{scope_id:str}", guards=[needs("admin", "limits:write")])
async def set_budget(
    kind: FromPath[str],
    scope_id: FromPath[str],
    data: JSONBody[BudgetIn],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
) -> budgets.Budget:
    """Set the budget of the tenant (`/budgets/tenant/{its id}`) or a campaign; what it held is asked about again."""
    identifier = parse_id(scope_id, "scope_id")
    async with runtime.db.uow(Role.ENGINE, principal.tenant_id) as uow:
        done = await budgets.set_budget(
            uow, principal.actor, kind, identifier,
            daily_cents=data.daily_cents, monthly_cents=data.monthly_cents, reason=data.reason,
        )  # fmt: skip
        await holds.release(uow, budgets.GATE, _campaign(done))
        return done


@post("/budgets/{kind:str}/{scope_id:str}/reset", status_code=200, guards=[needs("admin", "limits:write")])
async def reset(
    kind: FromPath[str],
    scope_id: FromPath[str],
    data: JSONBody[ResetIn],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
) -> budgets.Budget:
    """Count what is spent in the day, the month or both from nothing again."""
    identifier = parse_id(scope_id, "scope_id")
    async with runtime.db.uow(Role.ENGINE, principal.tenant_id) as uow:
        done = await budgets.reset(uow, principal.actor, kind, identifier, data.period, reason=data.reason)
        await holds.release(uow, budgets.GATE, _campaign(done))
        return done


@get("/prices", guards=[needs("viewer", "limits:read")])
async def prices_listed(principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]) -> Page[prices.Price]:
    """List the prices this tenant goes by, the installation's, past ones and those to come included."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return Page(await prices.listed(uow))


@post("/prices", status_code=201, guards=[needs("admin", "limits:write")])
async def price_add(
    data: JSONBody[PriceIn], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> prices.Price:
    """Set what one part of a message costs, by channel and country, from a moment on."""
    channel_of(runtime.channels, data.channel)  # one that nobody has would cost nobody anything
    async with runtime.db.uow(Role.ENGINE, _place(principal, installation=data.installation)) as uow:
        made = await prices.add(
            uow,
            principal.actor,
            data.channel,
            data.country,
            data.micros,
            valid_from=data.valid_from,
            reason=data.reason,
        )
        if not data.installation:
            await holds.release(uow, budgets.GATE)
        return made


@delete("/prices/{channel:str}/{country:str}", status_code=204, guards=[needs("admin", "limits:write")])
async def price_remove(
    channel: FromPath[str],
    country: FromPath[str],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
    installation: FromQuery[bool] = False,  # noqa: FBT002 - the framework passes every argument by name
) -> None:
    """Take the prices of a channel and country away; `-` is every country without a price of its own.

    The tenant's own; with `installation` those for every tenant, for administrators of the installation.
    """
    async with runtime.db.uow(Role.ENGINE, _place(principal, installation=installation)) as uow:
        await prices.remove(uow, principal.actor, channel, "" if country == "-" else country)
        if not installation:
            await holds.release(uow, budgets.GATE)


def _place(principal: Principal, *, installation: bool) -> UUID:
    """Whose prices are changed.

    Raises:  Refused(forbidden, 403).
    """
    if installation and not principal.is_installation_admin:
        raise Refused("forbidden", "only administrators of the installation may do this", status=403)
    return NIL if installation else principal.tenant_id


def _campaign(budget: budgets.Budget) -> UUID | None:
    """Whose held messages are concerned: a tenant's budget holds those of all its campaigns."""
    return budget.scope_id if budget.scope == "campaign" else None


ROUTES = [listed, events, set_budget, reset, prices_listed, price_add, price_remove]
