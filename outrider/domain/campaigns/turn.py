"""What the next page of a campaign's fan-out is about: whom of the audience, which contents, at which hours."""

from __future__ import annotations

from uuid import UUID

import asyncpg
import msgspec

from outrider.domain.campaigns import local_time
from outrider.domain.campaigns.delivery import BUCKETS, Delivery, bounds
from outrider.domain.campaigns.rows import DELIVERY as SQL
from outrider.domain.messages.fan_out import Hours, Lots, Part

_WIDEST = 20
"""How many pages' worth of members a page of a small wave looks at."""


class Turn(msgspec.Struct, frozen=True):
    """Part of the audience, contents by lot, hours by zone; None: all of them, the campaign's own, now.

    after   the checkpoint: of the wave whose turn it is, else of the campaign
    """

    after: UUID | None
    part: Part | None
    lots: Lots | None
    hours: Hours | None
    wave: int | None = None
    has_more_waves: bool = False

    def limit(self, page: int) -> int:
        """How many members to look at, so that a page of a small wave queues more than a handful."""
        if self.part is None:
            return page
        return page * min(_WIDEST, max(1, BUCKETS // (self.part.end - self.part.begin)))


async def turn_of(raw: asyncpg.Connection, tenant_id: UUID, row: asyncpg.Record, known: dict[UUID, Hours]) -> Turn:
    """What the next page of a campaign is about.

    Takes:   row    of `fan_out_lock`
             known  hours of campaigns this process asked for before; they never change after the launch
    """
    if row["delivery"] is None:
        return Turn(row["expanded_to"], None, None, None)
    wanted = Delivery.read(row["delivery"])
    campaign_id: UUID = row["id"]
    wave = None if row["wave"] is None else await SQL.wave_turn.one(raw, tenant_id, campaign_id, row["wave"])
    lots = None
    if wanted.ab_test is not None:
        winner = (
            await SQL.winner_of.value(raw, tenant_id, campaign_id)
            if wave is not None and wave["kind"] == "rest"
            else None
        )
        lots = Lots([winner], [0]) if winner is not None else await _lots(raw, tenant_id, campaign_id)
    hours = None
    if wanted.local_time is not None:
        hours = known.get(campaign_id) or await local_time.hours(raw, tenant_id, wanted.local_time)
        known[campaign_id] = hours
    if wave is None:
        return Turn(row["expanded_to"], None, lots, hours)
    part = Part(wave["bucket_from"], wave["bucket_to"])
    return Turn(wave["expanded_to"], part, lots, hours, row["wave"], wave["has_more_waves"])


async def _lots(raw: asyncpg.Connection, tenant_id: UUID, campaign_id: UUID) -> Lots:
    rows = await SQL.variants_of.many(raw, tenant_id, campaign_id)
    return Lots([row["content_id"] for row in rows], bounds([row["width"] for row in rows]))
