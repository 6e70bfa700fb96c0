"""Poison messages: set aside because workers died over them. Listed, and queued again when the cause is mended."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

import asyncpg
import msgspec
from litestar import get, post
from litestar.di import NamedDependency
from litestar.params import FromQuery, JSONBody

from outrider.base.errors import Refused
from outrider.data.db import Role
from outrider.data.runtime import Runtime
from outrider.domain.messages import poison
from outrider.interfaces.api.paging import Cursor, Limit, Page, cursor_of, page, read_cursor
from outrider.interfaces.api.v1.messages import tell_ready
from outrider.interfaces.auth import Principal, needs

_MOST = 100_000


class PoisonOut(msgspec.Struct):
    """A message over which workers died: since when it is set aside, and what is known about it."""

    id: UUID
    to: str
    channel: str
    campaign_id: UUID | None
    since: datetime
    detail: str
    attempts: int


class RequeueIn(msgspec.Struct, forbid_unknown_fields=True):
    """Which poison messages: by `ids`, or all of a campaign (or of the tenant) with the `count` they have now."""

    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=500)]
    ids: Annotated[list[UUID], msgspec.Meta(min_length=1, max_length=10_000)] | None = None
    campaign_id: UUID | None = None
    count: int | None = None


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
    data: JSONBody[RequeueIn], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> RequeuedOut:
    """Queue poison messages once more, each alone; one more death of a worker sets a message aside again."""
    async with runtime.db.uow(Role.ENGINE, principal.tenant_id) as uow:
        wanted = await _wanted(uow.raw, principal.tenant_id, data)
        done = await poison.requeue(uow, principal.actor, principal.tenant_id, wanted, reason=data.reason)
    if done:
        runtime.bell.ring("ready", lambda: tell_ready(runtime.db))
    return RequeuedOut(len(done), done)


async def _wanted(raw: asyncpg.Connection, tenant_id: UUID, data: RequeueIn) -> list[UUID]:
    """The messages meant; without ids the caller must name how many it saw, so that it decides what it looked at."""
    if data.ids is not None:
        return data.ids
    found = await poison.ids(raw, tenant_id, campaign_id=data.campaign_id, limit=_MOST)
    if data.count != len(found):
        raise Refused(
            "count_differs", f"{len(found)} messages are set aside now: repeat with count={len(found)} to confirm",
            field="/count", status=409,
        )  # fmt: skip
    return found


ROUTES = [poison_listed, poison_requeued]
