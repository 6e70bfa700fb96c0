"""Counts of messages from the rollups, exact at every moment: deltas are appended with the change they count."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

import asyncpg

from outrider.data.db import UnitOfWork
from outrider.domain.messages.rows import SQL
from outrider.domain.messages.states import END_STATES, QUEUE_WORDS


@dataclass(frozen=True, slots=True)
class Count:
    """How many messages are in a state, and for failures and blocks, by code (cause or gate)."""

    state: str
    code: str
    count: int


async def of_campaign(uow: UnitOfWork, tenant_id: UUID, campaign_id: UUID) -> dict[str, int]:
    """Messages of a campaign by state; the sum is the number that was queued for it."""
    return by_state(await details(uow.raw, tenant_id, campaign_id))


def by_state(counts: list[Count]) -> dict[str, int]:
    """Counts without their codes; states without a message are left out."""
    result: dict[str, int] = {}
    for count in counts:
        result[count.state] = result.get(count.state, 0) + count.count
    return result


async def details(raw: asyncpg.Connection, tenant_id: UUID, campaign_id: UUID) -> list[Count]:
    """Messages of a campaign by state and code, those still open included."""
    lanes = [row["id"] for row in await SQL.lanes_of_campaign.many(raw, tenant_id, campaign_id)]
    rows = await SQL.counts_of_lanes.many(raw, tenant_id, lanes)
    ended = [Count(row["state"], row["code"], row["n"]) for row in rows if row["state"] in END_STATES]
    accepted = sum(row["n"] for row in rows if row["state"] == "accepted")
    waiting = accepted - sum(count.count for count in ended)
    if waiting <= 0:
        return ended
    parts = {row["state"]: row["n"] for row in await SQL.queue_of_lanes.many(raw, tenant_id, lanes)}
    # the two reads are two snapshots: what finished in between is counted as queued, never twice or not at all
    result = []
    for state, word in sorted(QUEUE_WORDS.items(), reverse=True):
        here = waiting if state == 0 else min(parts.get(state, 0), waiting)
        waiting -= here
        if here:
            result.append(Count(word, "", here))
    return ended + result
