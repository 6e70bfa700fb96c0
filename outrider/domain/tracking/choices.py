"""What is noticed: a tenant, a sender and a campaign each may switch off openings and clicks; the narrowest wins.

Owns the rule. Messages that are not advertising are left alone unless the tenant says otherwise. Switching off holds at
once for what is not composed yet, and within seconds nothing more is recorded of what was sent before; its links go
on leading where they lead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import asyncpg
import msgspec

from outrider.base.errors import Broken, Refused
from outrider.contracts.actor import Actor
from outrider.contracts.channel import UNTRACKED, Tracking
from outrider.contracts.gate import MessageClass
from outrider.data.db import UnitOfWork
from outrider.domain.audit.append import append
from outrider.domain.limits.reasons import NOT_GIVEN
from outrider.domain.senders import senders
from outrider.domain.tracking.rows import SQL

Scope = Literal["tenant", "sender", "campaign"]


class Choice(msgspec.Struct, frozen=True):
    """What one scope wants noticed.

    transactional  also messages that are not advertising; a tenant's choice alone
    changed_at     None: nobody chose, these are the presets
    """

    opens: bool = True
    clicks: bool = True
    transactional: bool = False
    changed_by: str = ""
    changed_at: datetime | None = None


class ChoiceChange(msgspec.Struct, forbid_unknown_fields=True):
    """What shall be different about a choice; what is not named stays."""

    opens: bool | None = None
    clicks: bool | None = None
    transactional: bool | None = None


async def effective(
    raw: asyncpg.Connection, tenant_id: UUID, *, sender_id: UUID, campaign_id: UUID | None, message_class: MessageClass
) -> Tracking:
    """What may be noticed about messages of a lane now."""
    return of_rows(await SQL.switches_of.many(raw, tenant_id, sender_id, campaign_id), message_class)


def of_rows(rows: Sequence[Mapping[str, Any]], message_class: MessageClass) -> Tracking:
    """What may be noticed, from what tenant, sender and campaign chose."""
    if message_class != "bulk" and not any(row["scope"] == "tenant" and row["transactional"] for row in rows):
        return UNTRACKED
    return Tracking(opens=all(row["opens"] for row in rows), clicks=all(row["clicks"] for row in rows))


async def get(uow: UnitOfWork, scope: Scope, scope_id: UUID) -> Choice:
    """What a scope chose.

    Raises:  Refused(not_found).
    """
    await _require(uow, scope, scope_id)
    row = await SQL.switch_get.one(uow.raw, uow.tenant, scope, scope_id)
    return Choice(**row) if row else Choice()


async def choose(
    uow: UnitOfWork, actor: Actor, scope: Scope, scope_id: UUID, change: ChoiceChange, *, reason: str = NOT_GIVEN
) -> Choice:
    """Say what a scope wants noticed. Audited; choosing the same again changes nothing but the audit log.

    Raises:  Refused(not_found; tenant_only for `transactional` of a sender or campaign).
    """
    if change.transactional is not None and scope != "tenant":
        raise Refused("tenant_only", "only a tenant as a whole can choose this", field="/transactional")
    before = await get(uow, scope, scope_id)
    given = {name: value for name in change.__struct_fields__ if (value := getattr(change, name)) is not None}
    wanted = msgspec.structs.replace(before, **given)
    row = await SQL.switch_keep.one(
        uow.raw, uow.tenant, scope, scope_id, wanted.opens, wanted.clicks, wanted.transactional, actor.name
    )
    if row is None:
        raise Broken("no_row", "a row that was written is not there")
    await append(uow, actor, action="tracking.choose", target=(scope, str(scope_id)), reason=reason, details=given)
    return Choice(**row)


async def _require(uow: UnitOfWork, scope: Scope, scope_id: UUID) -> None:
    """The scope exists in this tenant."""
    if scope == "sender":
        await senders.get(uow, scope_id)
    elif scope == "campaign":
        await campaign_facts(uow, scope_id)
    elif scope_id != uow.tenant:
        raise Refused("not_found", "no such tenant", field="/id", status=404)


async def campaign_facts(uow: UnitOfWork, campaign_id: UUID) -> asyncpg.Record:
    """Name, sender, content, channel and state of a campaign.

    Raises:  Refused(not_found).
    """
    row = await SQL.campaign_facts.one(uow.raw, uow.tenant, campaign_id)
    if row is None:
        raise Refused("not_found", "no such campaign", field="/id", status=404)
    return row
