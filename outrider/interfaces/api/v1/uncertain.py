"""Uncertain messages: handed over, answer lost. Listed, asked about, sent again or marked, some or all at once."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Any, Literal
from uuid import UUID

import msgspec
from litestar import get, post
from litestar.di import NamedDependency
from litestar.params import FromQuery, JSONBody

from outrider.base.clock import boottime_s
from outrider.data.db import Role
from outrider.data.runtime import Runtime
from outrider.domain.messages import uncertain
from outrider.engine.dispatch.reconcile import Reconciler, Told
from outrider.interfaces.api.deciding import DecisionIn, wanted
from outrider.interfaces.api.paging import Cursor, Limit, Page, cursor_of, page, read_cursor
from outrider.interfaces.api.v1.messages import tell_ready
from outrider.interfaces.auth import Principal, needs

_ASKED_AT_ONCE = 50
_PATIENCE_S = 20.0


class UncertainOut(msgspec.Struct):
    """A message that was handed over and whose answer was lost; the code of its cause, and what that means."""

    id: UUID
    to: str
    channel: str
    campaign_id: UUID | None
    since: datetime
    cause: str
    title: str
    why: str
    remedy: str
    detail: str
    attempts: int


class MarkIn(DecisionIn, forbid_unknown_fields=True, kw_only=True):
    """A decision, and the state the messages get."""

    state: Literal["sent", "failed"]


class DecidedOut(msgspec.Struct):
    """The messages a decision concerned."""

    count: int
    ids: list[UUID]


class ReconciledOut(msgspec.Struct):
    """What providers said: messages they have, messages none of them has, which go again, and what they cannot say.

    `withdrawn`: none of them has them, and their campaign was cancelled: they are cancelled as well. `left_count`: not
    asked about any more in the time of a request; repeat it for these.
    """

    sent: list[UUID]
    again: list[UUID]
    withdrawn: list[UUID]
    undecided: list[UUID]
    left_count: int


@get("/uncertain", guards=[needs("viewer", "messages:read")])
async def uncertain_listed(
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
    campaign_id: FromQuery[UUID | None] = None,
    limit: FromQuery[Limit] = 100,
    cursor: FromQuery[Cursor] = "",
) -> Page[UncertainOut]:
    """List messages whose answer was lost; they wait for a decision."""
    after = read_cursor(cursor, tuple[UUID])
    async with runtime.db.uow(Role.ENGINE, principal.tenant_id) as uow:
        rows = await uncertain.listed(
            uow.raw, principal.tenant_id, limit=limit, after=after[0] if after else None, campaign_id=campaign_id
        )
    items = [_uncertain(row) for row in rows]
    return page(items, limit, cursor_of(items[-1].id) if items else "")


def _uncertain(row: Any) -> UncertainOut:
    cause = uncertain.meaning(row["cause"])
    return UncertainOut(
        id=row["message_id"], to=row["address"], channel=row["channel"], campaign_id=row["campaign_id"],
        since=row["since"], cause=row["cause"], title=cause.title, why=cause.why, remedy=cause.remedy,
        detail=row["detail"], attempts=row["attempts"],
    )  # fmt: skip


@post("/uncertain/resend", status_code=200, guards=[needs("operator", "messages:write")])
async def uncertain_resent(
    data: JSONBody[DecisionIn], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> DecidedOut:
    """Send uncertain messages again, but for cancelled campaigns; the same bytes: someone may get one twice."""
    async with runtime.db.uow(Role.ENGINE, principal.tenant_id) as uow:
        these = await _these(uow.raw, principal.tenant_id, data)
        done = await uncertain.resend(uow, principal.actor, principal.tenant_id, these, reason=data.why)
    runtime.bell.ring("ready", lambda: tell_ready(runtime.db))
    return DecidedOut(len(done), done)


@post("/uncertain/mark", status_code=200, guards=[needs("operator", "messages:write")])
async def uncertain_marked(
    data: JSONBody[MarkIn], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> DecidedOut:
    """Settle uncertain messages by hand as sent or failed."""
    async with runtime.db.uow(Role.ENGINE, principal.tenant_id) as uow:
        these = await _these(uow.raw, principal.tenant_id, data)
        done = await uncertain.mark(uow, principal.actor, principal.tenant_id, these, state=data.state, reason=data.why)
    return DecidedOut(len(done), done)


@post("/uncertain/reconcile", status_code=200, guards=[needs("operator", "messages:write")])
async def uncertain_reconciled(
    data: JSONBody[DecisionIn], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> ReconciledOut:
    """Ask the providers now what became of uncertain messages; the workers ask by themselves for three days."""
    async with runtime.db.uow(Role.ENGINE, principal.tenant_id) as uow:
        these = await _these(uow.raw, principal.tenant_id, data)
    reconciler, until_s = Reconciler(runtime), boottime_s() + _PATIENCE_S
    done, left_count = Told(), 0
    for at in range(0, len(these), _ASKED_AT_ONCE):
        if boottime_s() > until_s:
            left_count = len(these) - at
            break
        part = these[at : at + _ASKED_AT_ONCE]
        done.add(await reconciler.these(principal.tenant_id, part, actor=principal.actor, reason=data.why))
    if done.again:
        runtime.bell.ring("ready", lambda: tell_ready(runtime.db))
    return ReconciledOut(done.sent, done.again, done.withdrawn, done.undecided, left_count)


async def _these(raw: Any, tenant_id: UUID, data: DecisionIn) -> list[UUID]:
    find = partial(uncertain.ids, raw, tenant_id, campaign_id=data.campaign_id)
    return await wanted(data, find, are="uncertain")


ROUTES = [uncertain_listed, uncertain_resent, uncertain_marked, uncertain_reconciled]
