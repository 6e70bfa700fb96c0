"""The feed of events: everything that happens to messages and campaigns, read on from a cursor that misses nothing."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from litestar import get
from litestar.di import NamedDependency
from litestar.params import FromQuery, QueryParameter

from outrider.base.errors import Refused
from outrider.data.db import Role
from outrider.data.runtime import Runtime
from outrider.domain.campaigns import told
from outrider.domain.messages import events, feed
from outrider.interfaces.api.paging import Cursor, Limit, cursor_of, read_cursor
from outrider.interfaces.auth import Principal, needs

Kind = Annotated[str, msgspec.Meta(min_length=1, max_length=40, pattern=r"^[a-z_]+$(?!\n)")]
Kinds = Annotated[
    list[Kind] | None, QueryParameter(name="kind", max_items=20, description="Only events of these kinds; may repeat.")
]
Start = Annotated[
    Literal["oldest", "latest"],
    QueryParameter(name="from", description="Where to begin without a cursor: with the oldest kept event, or now."),
]


class FeedEventOut(msgspec.Struct):
    """Something that happened to a message, or to a campaign as a whole: then `message_id` is null.

    `id` is the same whenever the event is read.
    """

    id: str
    at: datetime
    kind: str
    message_id: UUID | None
    channel: str
    message_class: str = msgspec.field(name="class")
    campaign_id: UUID | None
    data: dict[str, Any]


class FeedOut(msgspec.Struct):
    """Events in an order that never changes. Keep `next_cursor`: it is given on every page, also on an empty one."""

    items: list[FeedEventOut]
    next_cursor: str
    has_more: bool


@get("/events", guards=[needs("viewer", "messages:read")])
async def followed(
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
    limit: FromQuery[Limit] = 100,
    cursor: FromQuery[Cursor] = "",
    start: FromQuery[Start] = "oldest",
    kinds: FromQuery[Kinds] = None,
) -> FeedOut:
    """Read events on from a cursor: each exactly once, late commits included; docs/how-to/follow-events.md."""
    _check(kinds or ())
    place: feed.Place | None = read_cursor(cursor, feed.Place)
    async with runtime.db.uow(Role.ENGINE, principal.tenant_id) as uow:
        if place is None and start == "latest":
            here = await feed.now(uow.raw)
            return FeedOut([], _cursor(here), has_more=False)
        page = await feed.read(uow.raw, principal.tenant_id, place or feed.START, limit=limit, kinds=kinds or ())
    return FeedOut([_event(event) for event in page.events], _cursor(page.place), page.has_more)


def _check(kinds: Iterable[str]) -> None:
    """Refuse a kind that there is not: nothing would ever be given, and nobody would know why.

    Raises:  Refused(unknown_kind).
    """
    known = (*events.KINDS, *told.KINDS)
    for kind in kinds:
        if kind not in known:
            raise Refused("unknown_kind", f"{kind} is none of {', '.join(known)}", field="?kind")


def _cursor(place: feed.Place) -> str:
    return cursor_of(place.cluster, place.position, place.message_id, place.at, place.kind)


def _event(event: feed.FeedEvent) -> FeedEventOut:
    at_us = int(event.at.timestamp()) * 1_000_000 + event.at.microsecond
    return FeedEventOut(
        id=f"{event.id}-{at_us:x}-{event.kind}",
        at=event.at,
        kind=event.kind,
        message_id=event.message_id,
        channel=event.channel,
        message_class=event.message_class,
        campaign_id=event.campaign_id,
        data=event.data,
    )


ROUTES = [followed]
