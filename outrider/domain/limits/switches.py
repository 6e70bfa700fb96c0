"""The kill switch: pausing and resuming the installation, a tenant, a channel, a sender or a campaign.

Owns table `switches` and the count of changes; never touches messages: what is paused stays queued.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, cast, get_args
from uuid import UUID

import msgspec

from outrider.base.errors import Broken, Refused, Unavailable
from outrider.base.ids import NIL, parse_id
from outrider.contracts.actor import Actor
from outrider.data.db import Database, Role, UnitOfWork
from outrider.domain.audit.append import append
from outrider.domain.limits.reasons import clean_reason
from outrider.domain.limits.rows import SQL

Scope = Literal["installation", "tenant", "channel", "sender", "campaign"]
SCOPES: tuple[str, ...] = get_args(Scope)
_SETTLE_MS = "1000"
_LONGEST_CHANNEL = 40


class Switch(msgspec.Struct, frozen=True):
    """One scope's state. `tenant_id` is NIL for the installation; `reason`, `actor`, `at` say who paused it and when.

    `scope_id` is the NIL id, the tenant's id, the channel's key, the sender's id or the campaign's id.
    """

    tenant_id: UUID
    scope: str
    scope_id: str
    is_paused: bool
    reason: str
    actor: str
    at: datetime | None
    changed: bool = False
    """Whether this call changed anything: pausing twice is no error."""


async def pause(uow: UnitOfWork, actor: Actor, scope: str, scope_id: str | None, reason: str) -> Switch:
    """Stop all sending of a scope from the moment of the commit; queued messages stay queued.

    Takes:   scope_id: ignored for installation and tenant (the unit of work's), else the channel's key or the id of a
             sender or campaign of this tenant. A channel in a unit of work of tenant NIL: for every tenant.
    Gives:   the switch as it stands; a scope that was paused keeps its first reason. Audited each time. After the
             commit call `settle`.
    Raises:  Refused(unknown_scope, not_found, invalid_reason).
    Source:  S1-11, S1-13, S1-15, S1-107; faults F85
    """
    tenant_id, key = await _place(uow, scope, scope_id)
    reason = clean_reason(reason)
    row = await SQL.switch_on.one(uow.raw, tenant_id, scope, key, reason, actor.name)
    changed = row is not None
    row = row or await SQL.switch_read.one(uow.raw, tenant_id, scope, key)
    if row is None:
        raise Unavailable("switch_raced", "somebody resumed this at the same instant; try again")
    await _tell(uow, actor, "sending.pause", tenant_id, scope, key, reason, changed=changed)
    return _switch(row, is_paused=True, changed=changed)


async def resume(uow: UnitOfWork, actor: Actor, scope: str, scope_id: str | None, reason: str) -> Switch:
    """Let a scope send again; what is paused at another scope stays paused.

    Takes:   as `pause`; a scope that does not exist any more may be resumed.
    Gives:   the switch as it stands. Audited each time, with what had been the reason for the pause.
    Source:  S1-14, S1-15
    """
    tenant_id, key = await _place(uow, scope, scope_id, must_exist=False)
    reason = clean_reason(reason)
    row = await SQL.switch_off.one(uow.raw, tenant_id, scope, key)
    was = {"paused_reason": row["reason"], "paused_by": row["actor"], "paused_at": row["at"]} if row else {}
    await _tell(uow, actor, "sending.resume", tenant_id, scope, key, reason, changed=row is not None, **was)
    return Switch(tenant_id, scope, key, is_paused=False, reason=reason, actor=actor.name, at=None, changed=bool(row))


async def listed(uow: UnitOfWork) -> list[Switch]:
    """What is paused for the unit of work's tenant and the installation; without a tenant (engine): for everybody."""
    if uow.tenant_id is None:
        rows = await SQL.switches_all.many(uow.raw)
    else:
        rows = await SQL.switches_of.many(uow.raw, uow.tenant_id)
    return [_switch(row, is_paused=True) for row in rows]


async def settle(db: Database, scope: str, tenant_id: UUID, scope_id: str) -> bool:
    """Wait until no claim that began before the last commit is still open: call it after the commit of a pause.

    Takes:   tenant_id and scope_id as in the `Switch` that `pause` gave.
    Gives:   False when a claim took longer than a second, or the database went away: the pause holds all the same,
             that claim's worker sees the count of changes before its next write.
    Source:  architecture.md section 4, a stop is a stop
    """
    try:
        async with db.uow(Role.ENGINE, tenant_id) as uow:
            await SQL.settle_bound.run(uow.raw, _SETTLE_MS)
            if tenant_id == NIL:
                await SQL.settle_installation.run(uow.raw)
            else:
                channel = scope_id if scope == "channel" else None
                sender = UUID(scope_id) if scope == "sender" else None
                campaign = UUID(scope_id) if scope == "campaign" else None
                await SQL.settle_tenant.run(uow.raw, tenant_id, channel, sender, campaign)
    except Unavailable:
        return False
    return True


async def _place(uow: UnitOfWork, scope: str, scope_id: str | None, *, must_exist: bool = True) -> tuple[UUID, str]:
    """Tenant and key under which a scope's switch is kept."""
    if scope not in SCOPES:
        raise Refused("unknown_scope", f"must be one of {', '.join(SCOPES)}", field="/scope")
    if scope == "installation":
        return NIL, str(NIL)
    if uow.tenant_id is None or (uow.tenant_id == NIL and scope != "channel"):
        raise Broken("no_tenant", f"a switch of scope {scope} needs a unit of work with a tenant")
    if scope == "tenant":
        return uow.tenant_id, str(uow.tenant_id)
    if not scope_id:
        raise Refused("required", f"the {scope}'s id is required", field="/id")
    if scope == "channel":
        if len(scope_id) > _LONGEST_CHANNEL or not scope_id.isidentifier() or not scope_id.isascii():
            raise Refused("not_found", "no such channel", field="/id", status=404)
        return uow.tenant_id, scope_id
    identifier = parse_id(scope_id, "/id")
    if must_exist and not await SQL.switch_target.value(uow.raw, uow.tenant_id, scope, identifier):
        raise Refused("not_found", f"no such {scope}", field="/id", status=404)
    return uow.tenant_id, str(identifier)


async def _tell(
    uow: UnitOfWork,
    actor: Actor,
    action: str,
    tenant_id: UUID,
    scope: str,
    key: str,
    reason: str,
    **details: Any,
) -> None:
    await SQL.epoch_bump.value(uow.raw)
    await append(uow, actor, action=action, target=(scope, key), reason=reason, details=details, tenant_id=tenant_id)


def _switch(row: Any, *, is_paused: bool, changed: bool = False) -> Switch:
    return Switch(
        cast("UUID", row["tenant_id"]),
        row["scope"],
        row["scope_id"],
        is_paused=is_paused,
        reason=row["reason"],
        actor=row["actor"],
        at=row["at"],
        changed=changed,
    )
