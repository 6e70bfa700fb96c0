"""Maintenance: nothing is sent anywhere while the operator works on the installation; messages stay queued."""

from __future__ import annotations

from datetime import datetime

import msgspec

from outrider.base.errors import Broken
from outrider.base.ids import NIL
from outrider.contracts.actor import Actor
from outrider.data.db import UnitOfWork
from outrider.domain.audit.append import append
from outrider.domain.limits.reasons import clean_reason
from outrider.domain.limits.rows import SQL


class Maintenance(msgspec.Struct, frozen=True):
    """Whether maintenance is on, since when, why and by whom."""

    is_on: bool
    since: datetime | None
    reason: str | None
    actor: str | None
    changed: bool = False


async def read(uow: UnitOfWork) -> Maintenance:
    """The state as it stands (any role)."""
    row = await SQL.epoch_read.one(uow.raw)
    if row is None:
        raise Broken("installation_missing", "the table `installation` has lost its row")
    since = row["maintenance_since"]
    return Maintenance(since is not None, since, row["maintenance_reason"], row["maintenance_by"])


async def maintenance_on(uow: UnitOfWork, actor: Actor, reason: str) -> Maintenance:
    """Stop all sending from the moment of the commit; then call `switches.settle` for the installation.

    Takes:   a unit of work of the engine role.
    Gives:   the state; turning it on twice keeps the first reason. Audited each time.
    Raises:  Refused(invalid_reason).
    """
    reason = clean_reason(reason)
    row = await SQL.maintenance_begin.one(uow.raw, reason, actor.name)
    return await _told(uow, actor, "maintenance.on", reason, changed=row is not None)


async def maintenance_off(uow: UnitOfWork, actor: Actor, reason: str) -> Maintenance:
    """Let sending go on; what is paused by a switch stays paused. Audited each time.

    Takes:   a unit of work of the engine role.
    Raises:  Refused(invalid_reason).
    """
    reason = clean_reason(reason)
    row = await SQL.maintenance_end.one(uow.raw)
    return await _told(uow, actor, "maintenance.off", reason, changed=row is not None)


async def _told(uow: UnitOfWork, actor: Actor, action: str, reason: str, *, changed: bool) -> Maintenance:
    await SQL.epoch_bump.value(uow.raw)
    await append(
        uow,
        actor,
        action=action,
        target=("installation", str(NIL)),
        reason=reason,
        details={"changed": changed},
        tenant_id=NIL,
    )
    state = await read(uow)
    return Maintenance(state.is_on, state.since, state.reason, state.actor, changed)
