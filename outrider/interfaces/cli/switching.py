"""The kill switch from the command line: the same verbs as the API's, on the database directly."""

from __future__ import annotations

from contextlib import suppress
from uuid import UUID

import msgspec

from outrider.base.errors import Unavailable
from outrider.base.ids import NIL
from outrider.data.db import Database, Role, UnitOfWork
from outrider.domain.limits import switches
from outrider.interfaces.cli import campaigns
from outrider.interfaces.cli.doors import doors
from outrider.interfaces.cli.options import Changing
from outrider.interfaces.cli.output import Answer
from outrider.interfaces.cli.work import note, tenant_of, within


async def pause(scope: str, which: str | None, options: Changing, *, every_tenant: bool) -> Answer:
    """Pause a scope and wait until the claims that began before are over.

    Raises:  Unavailable with the way out when the database is away.
    """
    try:
        async with doors().database() as db:
            role, tenant_id = await _place(db, scope, options, every_tenant=every_tenant)
            async with within(db, tenant_id, role=role, dry_run=options.dry_run, reason=options.reason) as work:
                scope_id = await _id(work.uow, scope, which)
                switch = await switches.pause(work.uow, work.actor, scope, scope_id, options.reason)
            is_settled = None
            if not options.dry_run:
                is_settled = await switches.settle(db, switch.scope, switch.tenant_id, switch.scope_id)
    except Unavailable as error:
        raise Unavailable(
            error.code, f"{error.message}; to stop the workers of this machine now: outrider pause --emergency"
        ) from error
    data = {**msgspec.to_builtins(switch), "is_settled": is_settled}
    done = f"{_named(switch)} is paused" if switch.changed else f"{_named(switch)} was paused already"
    if is_settled is False:
        done += "; a claim begun before took longer than a second, its worker sees the pause before its next write"
    return Answer(data, note(done, dry_run=options.dry_run))


async def resume(scope: str, which: str | None, options: Changing, *, every_tenant: bool) -> Answer:
    """Resume a scope; says what else still stops sending there."""
    async with doors().database() as db:
        role, tenant_id = await _place(db, scope, options, every_tenant=every_tenant)
        async with within(db, tenant_id, role=role, dry_run=options.dry_run, reason=options.reason) as work:
            scope_id = await _id(work.uow, scope, which)
            switch = await switches.resume(work.uow, work.actor, scope, scope_id, options.reason)
            left = await switches.listed(work.uow)
    data = {**msgspec.to_builtins(switch), "still_paused": [msgspec.to_builtins(each) for each in left]}
    done = f"{_named(switch)} goes on" if switch.changed else f"{_named(switch)} was not paused"
    if left:
        done += "; still paused: " + ", ".join(_named(each) for each in left)
    return Answer(data, note(done, dry_run=options.dry_run))


async def _place(db: Database, scope: str, options: Changing, *, every_tenant: bool) -> tuple[Role, UUID]:
    """Role and tenant of the unit of work; what concerns every tenant is written by the engine role."""
    if scope == "installation" or (scope == "channel" and every_tenant):
        return Role.ENGINE, NIL
    return Role.APP, await tenant_of(db, options.tenant)


async def _id(uow: UnitOfWork, scope: str, which: str | None) -> str | None:
    """What is stopped, by its id: whoever is in a hurry knows its name."""
    if which is None or scope not in {"sender", "campaign"}:
        return which
    with suppress(ValueError):
        return str(UUID(which))
    if scope == "campaign":
        return str((await campaigns.find(uow, which)).id)
    return str(await campaigns.sender_id(uow, which, field="which"))


def _named(switch: switches.Switch) -> str:
    return switch.scope if switch.scope in {"installation", "tenant"} else f"{switch.scope} {switch.scope_id}"
