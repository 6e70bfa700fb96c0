"""Uncertain messages: handed over, answer lost. They wait for a decision and are never sent again by themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal
from uuid import UUID

import asyncpg

from outrider.base.ids import NIL
from outrider.contracts.actor import Actor
from outrider.data.db import UnitOfWork
from outrider.domain.audit.append import append
from outrider.domain.limits import charges, contacted
from outrider.domain.messages import causes, keyed
from outrider.domain.messages.rows import SQL


async def listed(
    raw: asyncpg.Connection, tenant_id: UUID, *, limit: int, after: UUID | None = None, campaign_id: UUID | None = None
) -> list[asyncpg.Record]:
    """Uncertain messages, oldest first, with address, cause and lane."""
    return await SQL.uncertain_list.many(raw, tenant_id, after or NIL, limit, campaign_id)


def meaning(code: str) -> causes.CauseView:
    """What the cause of an uncertain message means; a plugin's own code stands for itself."""
    return causes.view(code, "uncertain") or causes.CauseView(code, code, "", "")


async def ids(
    raw: asyncpg.Connection, tenant_id: UUID, *, campaign_id: UUID | None, limit: int = 100_000
) -> list[UUID]:
    """The ids a bulk decision would concern, so that it can be counted and confirmed first."""
    return [row["message_id"] for row in await SQL.uncertain_ids.many(raw, tenant_id, campaign_id, limit)]


async def resend(uow: UnitOfWork, actor: Actor, tenant_id: UUID, message_ids: list[UUID], *, reason: str) -> list[UUID]:
    """Queue messages again with the same bytes and Message-ID; audited.

    The requests that they went in are forgotten: made again as well, they would deliver them twice. What is being
    repeated by a worker at this moment stays uncertain: in a minute that has an end.

    Takes:   a unit of work of the engine role.
    Gives:   the ids that were uncertain and are nobody's; others are passed over, and what was cancelled with its
             campaign: that can only be marked.
    """
    free = await _free(uow, tenant_id, message_ids)
    rows = await SQL.uncertain_resend.many(uow.raw, tenant_id, free, actor.name, reason)
    done = [row["id"] for row in rows]
    await keyed.forget_all(uow.raw, tenant_id, done)
    await _audit(uow, actor, tenant_id, "uncertain.resend", done, reason)
    return done


async def mark(
    uow: UnitOfWork,
    actor: Actor,
    tenant_id: UUID,
    message_ids: list[UUID],
    *,
    state: Literal["sent", "failed"],
    reason: str,
) -> list[UUID]:
    """Settle messages by hand as sent or failed; audited.

    Gives:   the ids that were uncertain, but for those that a worker is repeating at this moment.
    """
    free = await _free(uow, tenant_id, message_ids)
    rows = await SQL.uncertain_mark.many(uow.raw, tenant_id, free, state, actor.name, reason)
    done = [row["id"] for row in rows]
    if state == "failed" and done:
        await charges.release_all(uow.raw, tenant_id, done)
        await contacted.release_all(uow.raw, tenant_id, done)
    await _audit(uow, actor, tenant_id, f"uncertain.mark_{state}", done, reason)
    return done


async def note_reconciled(
    uow: UnitOfWork, actor: Actor, tenant_id: UUID, *, asked: int, told: Mapping[str, list[UUID]], reason: str
) -> None:
    """Audit that a person had the providers asked about messages, and what became of them (`told`: by what it was)."""
    shown = {f"{what}_ids": [str(each) for each in ids[:100]] for what, ids in told.items()}
    counts = {what: len(ids) for what, ids in told.items()}
    await append(
        uow, actor, action="uncertain.reconcile", target=("message", f"{asked} messages"), reason=reason,
        details={"asked": asked, **counts, **shown}, tenant_id=tenant_id,
    )  # fmt: skip


async def _free(uow: UnitOfWork, tenant_id: UUID, message_ids: list[UUID]) -> list[UUID]:
    """Those that nobody is about to send, nor will be until this is committed."""
    taken = await keyed.repeated_now(uow.raw, tenant_id, message_ids)
    return [each for each in message_ids if each not in taken]


async def _audit(uow: UnitOfWork, actor: Actor, tenant_id: UUID, action: str, done: list[UUID], reason: str) -> None:
    if not done:
        return
    shown = [str(message_id) for message_id in done[:100]]
    await append(
        uow, actor, action=action, target=("message", shown[0] if len(done) == 1 else f"{len(done)} messages"),
        reason=reason, details={"count": len(done), "ids": shown}, tenant_id=tenant_id,
    )  # fmt: skip
