"""Fan-out: a campaign's list or audience becomes messages; each page is one statement with its checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from outrider.base.ids import NIL
from outrider.domain.messages.rows import SQL


@dataclass(frozen=True, slots=True)
class Part:
    """Buckets `begin` to before `end` of 0..9,999: who belongs to one wave."""

    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Lots:
    """Contents that recipients get by lot, and the first bucket of each; the first of them is 0."""

    content_ids: list[UUID]
    begins: list[int]


@dataclass(frozen=True, slots=True)
class Hours:
    """When recipients get it, by their zone.

    due_s      JSON object: zone in small letters -> seconds since 1970
    else_at    for those of whom no zone is known
    attribute  names the attribute that holds the zone of those who have none of their own
    """

    due_s: str
    else_at: datetime
    attribute: str | None
    skips_late: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """What a campaign sends and to whom; frozen at launch. Without a list: to the audience that was found for it.

    Without part, lots and hours: to all of them, the same, now.

    only_counted  not to who joined the list after the launch
    """

    campaign_id: UUID
    list_id: UUID | None
    lane_id: int
    channel: str
    content_id: UUID
    purpose: str
    priority: int
    expires_at: datetime | None
    part: Part | None = None
    lots: Lots | None = None
    hours: Hours | None = None
    only_counted: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """What one page did. `last` is None when there was nothing left: the fan-out is complete.

    joined: members it goes to who joined the list after the launch.
    """

    last: UUID | None
    looked_at: int
    queued: int
    without_address: int
    late: int = 0
    joined: int = 0


async def fan_out(raw: asyncpg.Connection, tenant_id: UUID, plan: Plan, *, after: UUID | None, limit: int) -> Page:
    """Queue the next page of a campaign's members.

    Takes:   after   the checkpoint of the page before; limit 100..400,000 members looked at.
    Gives:   what was done; the caller stores `last` as checkpoint in the same transaction. A contact or an address that
             has the campaign already is passed over, so repeating a page is harmless.
    Source:  queries.sql fan_out; faults F22; decisions/0023
    """
    part, lots, hours = plan.part, plan.lots, plan.hours
    row = await SQL.fan_out.one(
        raw, tenant_id, plan.campaign_id, plan.list_id, plan.lane_id, plan.channel, after or NIL, limit,
        plan.content_id, plan.purpose, plan.priority, plan.expires_at,
        lots.content_ids if lots else None, lots.begins if lots else None,
        part.begin if part else None, part.end if part else None,
        hours.due_s if hours else None, hours.else_at if hours else None, hours.attribute if hours else None,
        hours.skips_late if hours else None, plan.only_counted,
    )  # fmt: skip
    if row is None:
        return Page(None, 0, 0, 0)
    return Page(row["last"], row["looked_at"], row["queued"], row["without_address"], row["late"], row["joined"])
