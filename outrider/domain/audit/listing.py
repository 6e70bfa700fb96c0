"""Reading the audit log, newest first."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import msgspec

from outrider.data.db import UnitOfWork
from outrider.domain.audit.rows import SQL

NEWEST = 2**63 - 1
"""The cursor of the first page."""


class LoggedEntry(msgspec.Struct, frozen=True):
    """One entry as people read it; `hash` is hexadecimal."""

    seq: int
    at: datetime
    actor_kind: str
    actor: str
    action: str
    target_kind: str
    target_id: str
    reason: str
    details: dict[str, Any]
    ip: str | None
    hash: str


async def listed(
    uow: UnitOfWork, *, before_seq: int = NEWEST, limit: int = 50, action: str = "", actor: str = "", target: str = ""
) -> list[LoggedEntry]:
    """A page of the unit of work's tenant, newest first.

    Takes:   before_seq  the last `seq` of the page before; filters match whole words and are off when empty.
    Gives:   0..limit entries; fewer than `limit` means that it was the last page.
    """
    rows = await SQL.entries_before.many(uow.raw, uow.tenant_id, before_seq, action, actor, target, limit)
    return [
        LoggedEntry(
            seq=row["seq"],
            at=row["at"],
            actor_kind=row["actor_kind"],
            actor=row["actor"],
            action=row["action"],
            target_kind=row["target_kind"],
            target_id=row["target_id"],
            reason=row["reason"],
            details=json.loads(row["details"]),
            ip=row["ip"],
            hash=row["hash"].hex(),
        )
        for row in rows
    ]
