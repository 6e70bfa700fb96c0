"""The feed of events: a reader goes on from where it stopped and misses nothing, late commits included.

Owns places in the feed. An event's position is the number of its transaction; what is given lies below every open
transaction, so that nothing can appear before a place that was given. One writer that stays open holds the feed back,
for everybody: it never makes anybody miss something.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import asyncpg
import msgspec
import orjson

from outrider.base.errors import Unavailable
from outrider.base.ids import NIL
from outrider.data.db import Database, Role
from outrider.domain.messages.rows import FEED

_LOOKED_AT = 5_000
"""Events that one call looks at when only some kinds are wanted."""

_Bigint = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_FIRST = datetime(1970, 1, 1, tzinfo=UTC)


class Place(msgspec.Struct, frozen=True, array_like=True):
    """Where a reader stopped: the last event it was given, and the cluster whose transactions count it.

    `message_id`: of the message, or the campaign, that it happened to.
    """

    cluster: _Bigint
    position: Annotated[int, msgspec.Meta(ge=-1, le=2**63 - 1)]
    message_id: UUID = NIL
    at: Annotated[datetime, msgspec.Meta(tz=True)] = _FIRST
    kind: Annotated[str, msgspec.Meta(max_length=60, pattern=r"^[a-z_]*$(?!\n)")] = ""


START = Place(-1, -1)
"""Before everything that is kept."""


@dataclass(frozen=True, slots=True)
class FeedEvent:
    """An event with what it concerns; what it happened to may be gone, then `channel` is empty.

    id            of the message it happened to, or of the campaign, when `message_id` is None
    """

    position: int
    id: UUID
    message_id: UUID | None
    at: datetime
    kind: str
    data: dict[str, Any]
    channel: str
    message_class: str
    campaign_id: UUID | None


@dataclass(frozen=True, slots=True)
class FeedPage:
    """A page and the place after it. `has_more`: another call now would give more."""

    events: list[FeedEvent]
    place: Place
    has_more: bool


async def settle_clock(db: Database) -> bool:
    """Make positions go on growing after this database was copied to another cluster; at the start of every process.

    Gives:   whether it had been copied. Repeating it changes nothing.
    """
    async with db.uow(Role.ENGINE) as uow:
        return bool(await FEED.clock_settle.value(uow.raw))


async def now(raw: asyncpg.Connection) -> Place:
    """The place after everything that is decided now."""
    bounds = await _bounds(raw, START)
    return Place(bounds["cluster"], bounds["horizon"])


async def read(
    raw: asyncpg.Connection, tenant_id: UUID, after: Place, *, limit: int, kinds: Collection[str] = ()
) -> FeedPage:
    """Events after a place, oldest transaction first.

    Takes:   limit 1..1000; kinds: only these (all when empty). Engine role.
    Gives:   a page whose place is where the next call goes on, also when it is empty.
    Raises:  Unavailable(event_clock) when the database was moved and no process has started since.
    Source:  docs/how-to/follow-events.md; migrations/versions/0002_event_positions.py
    """
    bounds = await _bounds(raw, after)
    if bounds["position"] != after.position:
        # what came up to the copy was read before it; with nothing before it, events of older releases (0) come again
        after = Place(bounds["cluster"], bounds["position"] + 1 if bounds["position"] else START.position)
    most = max(_LOOKED_AT, limit) if kinds else limit
    rows = await FEED.feed_page.many(
        raw, tenant_id, after.position, after.message_id, after.at, after.kind, most, bounds["horizon"]
    )
    wanted = [row for row in rows if not kinds or row["kind"] in kinds][:limit]
    last = wanted[-1] if len(wanted) == limit else rows[-1] if rows else None
    place = Place(bounds["cluster"], after.position, after.message_id, after.at, after.kind)
    if last is not None:
        place = Place(bounds["cluster"], last["position"], last["id"], last["at"], last["kind"])
    has_more = len(rows) == most or (last is not None and last is not rows[-1])
    return FeedPage(await _with_subjects(raw, tenant_id, wanted), place, has_more)


async def _bounds(raw: asyncpg.Connection, after: Place) -> asyncpg.Record:
    bounds = await FEED.feed_bounds.one(raw, after.cluster, after.position)
    if bounds is None:
        raise Unavailable("event_clock", "the database was moved: start a process of Outrider on it")
    return bounds


async def tell_campaign(
    raw: asyncpg.Connection, tenant_id: UUID, campaign_id: UUID, kind: str, data: Mapping[str, Any]
) -> None:
    """Add an event of a campaign to the feed, in the caller's transaction; of either role."""
    await FEED.campaign_event_add.run(raw, tenant_id, campaign_id, kind, orjson.dumps(dict(data)).decode())


async def _with_subjects(raw: asyncpg.Connection, tenant_id: UUID, rows: list[asyncpg.Record]) -> list[FeedEvent]:
    """The events of rows, with what is known of the messages and campaigns they happened to."""
    ids = sorted({row["id"] for row in rows if not row["is_of_campaign"]})
    messages = (
        {row["id"]: row for row in await FEED.feed_messages.many(raw, tenant_id, ids, ids[0], ids[-1])} if ids else {}
    )
    campaign_ids = list({row["id"] for row in rows if row["is_of_campaign"]})
    campaigns = (
        {row["id"]: row["channel"] for row in await FEED.feed_campaigns.many(raw, tenant_id, campaign_ids)}
        if campaign_ids
        else {}
    )
    return [
        _of_campaign(row, campaigns.get(row["id"], ""))
        if row["is_of_campaign"]
        else _of_message(row, messages.get(row["id"]))
        for row in rows
    ]


def _of_campaign(row: asyncpg.Record, channel: str) -> FeedEvent:
    return FeedEvent(
        position=row["position"],
        id=row["id"],
        message_id=None,
        at=row["at"],
        kind=row["kind"],
        data=orjson.loads(row["data"]),
        channel=channel,
        message_class="bulk",
        campaign_id=row["id"],
    )


def _of_message(row: asyncpg.Record, message: asyncpg.Record | None) -> FeedEvent:
    return FeedEvent(
        position=row["position"],
        id=row["id"],
        message_id=row["id"],
        at=row["at"],
        kind=row["kind"],
        data=orjson.loads(row["data"]) if row["data"] else {},
        channel=message["channel"] if message else "",
        message_class=message["message_class"] if message else "",
        campaign_id=message["campaign_id"] if message else None,
    )
