"""Appending to the audit log, in the transaction of what is being recorded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final
from uuid import UUID

from outrider.base.errors import Broken
from outrider.base.ids import NIL
from outrider.contracts.actor import Actor
from outrider.data.db import UnitOfWork
from outrider.domain.audit.chain import GENESIS, Entry, canonical, digest
from outrider.domain.audit.rows import SQL

NOT_GIVEN: Final = "not given"
_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Position:
    """Where an entry stands in its chain."""

    seq: int
    at: datetime
    hash: bytes


async def append(
    uow: UnitOfWork,
    actor: Actor,
    *,
    action: str,
    target: tuple[str, str],
    reason: str = NOT_GIVEN,
    details: Mapping[str, Any] = _NOTHING,
    tenant_id: UUID | None = None,
) -> Position:
    """Add one entry to a tenant's chain; it is committed or rolled back with the caller's change.

    Takes:   action `noun.verb`; target (kind, id); reason: the actor's when none is given; details without secrets;
             tenant_id None: the unit of work's tenant, and without one NIL, the installation's chain.
    Gives:   where the entry stands. The tip of the chain stays locked until the transaction ends: append last, after
             every other lock.
    Source:  ASVS V16.4; architecture.md section 6
    """
    chain = tenant_id or uow.tenant_id or NIL
    head = await SQL.head_lock.one(uow.raw, chain, GENESIS)
    if head is None:
        raise Broken("audit_head_lost", "the statement gives the row it made or locked")
    entry = Entry(
        tenant_id=chain,
        seq=head["seq"] + 1,
        at=head["at"],
        actor_kind=actor.kind,
        actor=canonical(actor.name),
        action=action,
        target_kind=target[0],
        target_id=canonical(target[1]),
        reason=_reason(reason, actor),
        details=canonical(details),
        ip=actor.ip,
    )
    tip = digest(entry, head["hash"])
    await SQL.entry_add.run(
        uow.raw,
        chain,
        entry.seq,
        entry.at,
        entry.actor_kind,
        entry.actor,
        entry.action,
        entry.target_kind,
        entry.target_id,
        entry.reason,
        json.dumps(entry.details),
        entry.ip,
        head["hash"],
        tip,
    )
    return Position(entry.seq, entry.at, tip)


def _reason(given: str, actor: Actor) -> str:
    own = canonical(given)
    return own if own and own != NOT_GIVEN else canonical(actor.reason) or NOT_GIVEN
