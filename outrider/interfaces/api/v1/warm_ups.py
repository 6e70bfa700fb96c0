"""Warm-up plans of senders."""

from __future__ import annotations

from datetime import date
from typing import Annotated
from uuid import UUID

import msgspec
from litestar import get, patch, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from outrider.base.errors import Refused
from outrider.base.ids import parse_id
from outrider.data.db import Role, UnitOfWork
from outrider.data.runtime import Runtime
from outrider.domain.limits import allowances, plans, warm_ups
from outrider.domain.limits.plans import Step
from outrider.domain.limits.reasons import NOT_GIVEN
from outrider.domain.messages import holds
from outrider.interfaces.api.paging import Page
from outrider.interfaces.auth import Principal, needs

Steps = Annotated[list[Step], msgspec.Meta(min_length=1, max_length=plans.MOST_STEPS)]
Reason = Annotated[str, msgspec.Meta(max_length=500)]


class WarmUpIn(msgspec.Struct, forbid_unknown_fields=True):
    """A named plan, or `own` with steps; from a day of the tenant's zone on, by default today."""

    plan: str = "standard"
    steps: Steps | None = None
    starts_on: date | None = None
    options: warm_ups.Options | None = None
    reason: Reason = NOT_GIVEN


class WarmUpChange(msgspec.Struct, forbid_unknown_fields=True):
    """What is given is changed. `step`: the day of the plan that today is; `state`: running, paused or finished."""

    steps: Steps | None = None
    options: warm_ups.Options | None = None
    step: int | None = None
    state: str | None = None
    reason: Reason = NOT_GIVEN


class RestartIn(msgspec.Struct, forbid_unknown_fields=True):
    """Why."""

    reason: Reason = NOT_GIVEN


@get("/warm-ups", guards=[needs("viewer", "limits:read")])
async def listed(principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]) -> Page[warm_ups.WarmUp]:
    """List the warm-up plans of this tenant's senders and where they stand."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return Page(await warm_ups.listed(uow))


@get("/senders/{sender_id:str}/warm-up", guards=[needs("viewer", "limits:read")])
async def show(
    sender_id: FromPath[str], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> warm_ups.WarmUp:
    """Show the plan of a sender and where it stands."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await warm_ups.get(uow, parse_id(sender_id, "sender_id"))


@put("/senders/{sender_id:str}/warm-up", guards=[needs("admin", "limits:write")])
async def begin(
    sender_id: FromPath[str],
    data: JSONBody[WarmUpIn],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
) -> warm_ups.WarmUp:
    """Warm a sender up by a plan; one that it has is begun anew, and what was sent today goes on to count."""
    identifier = parse_id(sender_id, "sender_id")
    async with runtime.db.uow(Role.ENGINE, principal.tenant_id) as uow:
        made = await warm_ups.begin(
            uow, principal.actor, identifier, data.plan, steps=data.steps, starts_on=data.starts_on,
            options=data.options, reason=data.reason,
        )  # fmt: skip
        await holds.release_sender(uow, allowances.GATE, identifier)
        return made


@patch("/senders/{sender_id:str}/warm-up", guards=[needs("admin", "limits:write")])
async def change(
    sender_id: FromPath[str],
    data: JSONBody[WarmUpChange],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
) -> warm_ups.WarmUp:
    """Change a plan's days or how it counts, put it on another day, pause it, let it go on, or end it."""
    identifier = parse_id(sender_id, "sender_id")
    async with runtime.db.uow(Role.ENGINE, principal.tenant_id) as uow:
        made = await _changed(uow, principal, identifier, data)
        await holds.release_sender(uow, allowances.GATE, identifier)
        return made


@post("/senders/{sender_id:str}/warm-up/restart", status_code=200, guards=[needs("admin", "limits:write")])
async def restart(
    sender_id: FromPath[str],
    data: JSONBody[RestartIn],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
) -> warm_ups.WarmUp:
    """Begin a plan anew with its first day; one that is over runs again."""
    identifier = parse_id(sender_id, "sender_id")
    async with runtime.db.uow(Role.ENGINE, principal.tenant_id) as uow:
        made = await warm_ups.restart(uow, principal.actor, identifier, reason=data.reason)
        await holds.release_sender(uow, allowances.GATE, identifier)
        return made


async def _changed(uow: UnitOfWork, principal: Principal, identifier: UUID, data: WarmUpChange) -> warm_ups.WarmUp:
    by = (uow, principal.actor, identifier)
    made = await warm_ups.get(uow, identifier)
    if data.steps is not None or data.options is not None:
        made = await warm_ups.adjust(*by, steps=data.steps, options=data.options, reason=data.reason)
    if data.step is not None:
        made = await warm_ups.skip(*by, data.step, reason=data.reason)
    if data.state is not None:
        verbs = {"running": warm_ups.resume, "paused": warm_ups.pause, "finished": warm_ups.end}
        if data.state not in verbs:
            raise Refused("unknown_state", f"must be one of {', '.join(verbs)}", field="/state")
        made = await verbs[data.state](*by, reason=data.reason)
    return made


ROUTES = [listed, show, begin, change, restart]
