"""Results: who opened and clicked, by hour, link, domain and content; machines always apart from people.

Owns the read model and its words. People are counted as messages: each once, however often they come back.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from outrider.base.errors import Refused
from outrider.data.db import UnitOfWork
from outrider.domain.messages import counts
from outrider.domain.tracking.choices import campaign_facts
from outrider.domain.tracking.judge import CLICK, OPEN
from outrider.domain.tracking.rows import SQL

SENT = ("sent", "delivered", "bounced", "uncertain")
_MOST = 2**62


class Responses(msgspec.Struct, frozen=True):
    """Openings or clicks. people and machines are messages, each once; the hits are every time."""

    people: int = 0
    hits: int = 0
    machines: int = 0
    machine_hits: int = 0


class Results(msgspec.Struct, frozen=True):
    """What became of a campaign. The rates are people of sent; an opening nobody noticed is in neither."""

    campaign_id: UUID
    sent_count: int
    counts: dict[str, int]
    opens: Responses
    clicks: Responses
    open_rate: float
    click_rate: float


class ByLink(msgspec.Struct, frozen=True):
    """The clicks of one link, as its author wrote it."""

    key: str
    url: str | None
    people: int
    hits: int
    machines: int
    machine_hits: int


class ByDomain(msgspec.Struct, frozen=True):
    """What recipients of one domain did."""

    domain: str
    sent: int
    opened: int
    clicked: int
    machine_opened: int
    machine_clicked: int


class ByHour(msgspec.Struct, frozen=True):
    """What happened in one hour (UTC): messages sent, and messages opened and clicked for the first time."""

    hour: datetime
    sent: int
    opened: int
    clicked: int
    machine_opened: int
    machine_clicked: int


class ByContent(msgspec.Struct, frozen=True):
    """What recipients of one content did."""

    content_id: UUID
    opened: int
    clicked: int
    machine_opened: int
    machine_clicked: int


class Noticed(msgspec.Struct, frozen=True):
    """What is known of one message: opened, or a link of it followed."""

    kind: str
    link: str | None
    url: str | None
    is_machine: bool
    machine: str
    first_at: datetime
    last_at: datetime
    hits: int


async def of_campaign(uow: UnitOfWork, campaign_id: UUID) -> Results:
    """A campaign's results as they are now.

    Raises:  Refused(not_found).
    """
    await campaign_facts(uow, campaign_id)
    by_state = await counts.of_campaign(uow, uow.tenant, campaign_id)
    rows = await SQL.totals.many(uow.raw, uow.tenant, await _lanes(uow, campaign_id))
    sent = sum(by_state.get(state, 0) for state in SENT)
    opens, clicks = _responses(rows, OPEN), _responses(rows, CLICK)
    return Results(
        campaign_id,
        sent,
        by_state,
        opens,
        clicks,
        round(opens.people / sent, 4) if sent else 0.0,
        round(clicks.people / sent, 4) if sent else 0.0,
    )


async def by_link(
    uow: UnitOfWork, campaign_id: UUID, *, limit: int, after: tuple[int, str] | None = None
) -> list[ByLink]:
    """Clicks by link, the most followed first; `after`: people and key of the last one of the page before.

    Raises:  Refused(not_found).
    """
    await campaign_facts(uow, campaign_id)
    people, key = after or (_MOST, "")
    lanes = await _lanes(uow, campaign_id)
    return [ByLink(**row) for row in await SQL.by_link.many(uow.raw, uow.tenant, lanes, people, key, limit)]


async def by_domain(
    uow: UnitOfWork, campaign_id: UUID, *, limit: int, after: tuple[int, str] | None = None
) -> list[ByDomain]:
    """What recipients did by domain, the one with most messages first; reads every message of the campaign once.

    Raises:  Refused(not_found).
    """
    await campaign_facts(uow, campaign_id)
    sent, domain = after or (_MOST, "")
    lanes = await _lanes(uow, campaign_id)
    rows = await SQL.by_domain.many(uow.raw, uow.tenant, lanes, campaign_id, sent, domain, limit)
    return [ByDomain(row["domain"], *(row[name] or 0 for name in ByDomain.__struct_fields__[1:])) for row in rows]


async def by_content(uow: UnitOfWork, campaign_id: UUID) -> list[ByContent]:
    """What recipients did by content: what an A/B test compares.

    Raises:  Refused(not_found).
    """
    await campaign_facts(uow, campaign_id)
    lanes = await _lanes(uow, campaign_id)
    return [ByContent(**row) for row in await SQL.by_content.many(uow.raw, uow.tenant, lanes)]


async def by_hour(
    uow: UnitOfWork, campaign_id: UUID | None, *, after: datetime, before: datetime, limit: int
) -> list[ByHour]:
    """What happened by hour, oldest first, between two moments; without a campaign of the whole tenant.

    Raises:  Refused(not_found).
    """
    lanes = None
    if campaign_id is not None:
        await campaign_facts(uow, campaign_id)
        lanes = await _lanes(uow, campaign_id)
    return [ByHour(**row) for row in await SQL.by_hour.many(uow.raw, uow.tenant, lanes, after, before, limit)]


async def of_message(uow: UnitOfWork, message_id: UUID) -> list[Noticed]:
    """What is known of one message, in the order it happened; `link` is None for the message as a whole.

    Raises:  Refused(not_found).
    """
    if await SQL.letter_of.one(uow.raw, uow.tenant, message_id) is None:
        raise Refused("not_found", "no such message", field="/id", status=404)
    rows = await SQL.responses_of.many(uow.raw, uow.tenant, message_id)
    return [
        Noticed(
            "open" if row["kind"] == OPEN else "click", str(row["link"]) if row["link"] else None, row["url"],
            row["is_machine"], row["machine"], row["first_at"], row["last_at"], row["hits"],
        )
        for row in rows
    ]  # fmt: skip


async def _lanes(uow: UnitOfWork, campaign_id: UUID) -> list[int]:
    return [row["id"] for row in await SQL.campaign_lanes.many(uow.raw, uow.tenant, campaign_id)]


def _responses(rows: list[asyncpg.Record], kind: int) -> Responses:
    found: dict[str, Any] = {}
    for row in rows:
        if row["kind"] == kind:
            names = ("machines", "machine_hits") if row["is_machine"] else ("people", "hits")
            found |= dict(zip(names, (row["messages"], row["hits"]), strict=True))
    return Responses(**found)
