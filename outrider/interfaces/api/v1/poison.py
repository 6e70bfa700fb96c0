"""Poison messages: set aside because workers died over them. Listed, and queued again when the cause is mended."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from uuid import UUID

import msgspec
from litestar import get, post
from litestar.di import NamedDependency
from litestar.params import FromQuery, JSONBody

from outrider.data.db import Role
from outrider.data.runtime import Runtime
from outrider.domain.messages import poison
from outrider.interfaces.api.deciding import DecisionIn, wanted
from outrider.interfaces.api.paging import Cursor, Limit, Page, cursor_of, page, read_cursor
from outrider.interfaces.api.v1.messages import tell_ready
from outrider.interfaces.auth import Principal, needs


class PoisonOut(msgspec.Struct):
    """A message over which workers died: since when it is set aside, and what is known about it."""

    id: UUID
    to: str
    channel: str
    campaign_id: UUID | None
    since: datetime
    detail: str
    attempts: int


class RequeuedOut(msgspec.Struct):
    """The messages that are queued again."""

    count: int
    ids: list[UUID]


@get("/poison", guards=[needs("viewer", "messages:read")])
async def poison_listed(
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
    campaign_id: FromQuery[UUID | None] = None,
    limit: FromQuery[Limit] = 100,
    cursor: FromQuery[Cursor] = "",
) -> Page[PoisonOut]:
    """List messages that were set aside because workers died over them, oldest first."""
    after = read_cursor(cursor, tuple[UUID])
    async with runtime.db.uow(Role.ENGINE, principal.tenant_id) as uow:
        rows = await poison.listed(
            uow.raw, principal.tenant_id, limit=limit, after=after[0] if after else None, campaign_id=campaign_id
        )
    items = [
        PoisonOut(
            id=row["message_id"], to=row["address"], channel=row["channel"], campaign_id=row["campaign_id"],
            since=row["since"], detail=row["detail"], attempts=row["attempts"],
        )
        for row in rows
    ]  # fmt: skip
    return page(items, limit, cursor_of(items[-1].id) if items else "")


@post("/poison/requeue", status_code=200, guards=[needs("operator", "messages:write")])
async def poison_requeued(
    data: JSONBody[DecisionIn], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> RequeuedOut:
    """Queue poison messages once more, each alone; one more death of a worker sets a message aside again."""
    async with runtime.db.uow(Role.ENGINE, principal.tenant_id) as uow:
        find = partial(poison.ids, uow.raw, principal.tenant_id, campaign_id=data.campaign_id)
        these = await wanted(data, find, are="set aside")
        done = await poison.requeue(uow, principal.actor, principal.tenant_id, these, reason=data.why)
    if done:
        runtime.bell.ring("ready", lambda: tell_ready(runtime.db))
    return RequeuedOut(len(done), done)


ROUTES = [poison_listed, poison_requeued]
