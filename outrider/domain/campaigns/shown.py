"""How a campaign goes out, as it is shown: its delivery, variants, and each wave with what was found and decided.

Owns the read model; changes nothing.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from outrider.base.errors import Refused
from outrider.data.db import UnitOfWork
from outrider.domain.campaigns import local_time, pacing, variants
from outrider.domain.campaigns.delivery import BUCKETS, Delivery
from outrider.domain.campaigns.rows import DELIVERY as SQL
from outrider.domain.campaigns.variants import VariantView


class WaveView(msgspec.Struct, frozen=True):
    """A wave of a campaign.

    state    `waiting` for the one before, `queueing`, `going_out` until all of it was tried, `resting` until the look,
             `deciding` while people are to decide, `stopped`, or `through`
    found    what the look found: figures of a canary, scores of a test
    winner   the name of the variant the rest gets
    """

    n: int
    kind: str
    state: str
    share_percent: float
    member_count: int
    queued_count: int
    expanded_at: datetime | None
    look_at: datetime | None
    looked_at: datetime | None
    found: Any
    verdict: str | None
    why: str | None
    winner: str | None
    decided_by: str | None
    decided_at: datetime | None


class DeliveryView(msgspec.Struct, frozen=True):
    """How a campaign goes out, and how far that is.

    waits_for   `look` or `decision` when the next wave waits for one
    pace_per_s  messages a second at most, since the launch; null without a pace
    late_count  people who were skipped because their hour was over
    """

    campaign_id: UUID
    delivery: Delivery
    variants: list[VariantView]
    waves: list[WaveView]
    waits_for: str | None
    pace_per_s: float | None
    late_count: int


async def shown(uow: UnitOfWork, campaign_id: UUID) -> DeliveryView:
    """How a campaign goes out, and how far that is.

    Raises:  Refused(not_found).
    """
    row = await row_of(uow, campaign_id)
    known = await variants.listed(uow, campaign_id)
    names = {each.n: each.name for each in known}
    waves = [_wave(each, row, names) for each in await SQL.waves_of.many(uow.raw, uow.tenant, campaign_id)]
    states = {each.state for each in waves}
    waits_for = "look" if states & {"going_out", "resting"} else None
    waits_for = "decision" if states & {"deciding", "stopped"} else waits_for
    return DeliveryView(
        campaign_id=campaign_id,
        delivery=Delivery.read(row["delivery"]),
        variants=known,
        waves=waves,
        waits_for=waits_for if row["state"] in {"sending", "paused"} else None,
        pace_per_s=await pacing.of(uow, campaign_id),
        late_count=row["late_count"],
    )


async def row_of(uow: UnitOfWork, campaign_id: UUID) -> asyncpg.Record:
    """What is stored of how a campaign goes out.

    Raises:  Refused(not_found).
    """
    row = await SQL.delivery_get.one(uow.raw, uow.tenant, campaign_id)
    if row is None:
        raise Refused("not_found", "no such campaign", field="/id", status=404)
    return row


def _wave(row: asyncpg.Record, campaign: asyncpg.Record, names: dict[int, str]) -> WaveView:
    facts = dict(row)
    width = facts.pop("bucket_to") - facts.pop("bucket_from")
    found = facts.pop("found")
    winner = facts.pop("winner")
    return WaveView(
        **facts,
        state=_state(row, campaign),
        share_percent=width * 100 / BUCKETS,
        found=msgspec.json.decode(found) if found else None,
        winner=names.get(winner),
    )


def _state(row: asyncpg.Record, campaign: asyncpg.Record) -> str:
    if campaign["wave"] is None or row["n"] > campaign["wave"]:
        return "waiting"
    if row["verdict"] == "stop":
        return "stopped"
    if row["n"] < campaign["wave"] or row["verdict"] is not None:
        return "through"
    if row["expanded_at"] is None:
        return "queueing"
    if not campaign["waits_for_look"]:
        return "through"
    if row["looked_at"] is not None:
        return "deciding"
    return "going_out" if row["look_at"] is None else "resting"


def estimated_at(view: DeliveryView, now: datetime, left_count: int, reached_per_s: float) -> datetime | None:
    """When a campaign will be through: by its pace, what it waits for and the last zone's hour; pure.

    Gives:   None while it waits for people, or nothing is known of its speed.
    """
    speed = view.pace_per_s or reached_per_s
    if not speed or view.waits_for == "decision":
        return None
    at = now + timedelta(seconds=left_count / speed)
    rules = {"canary": view.delivery.canary, "test": view.delivery.ab_test}
    for wave in view.waves[:-1]:
        rule = rules.get(wave.kind)
        if wave.verdict is not None or rule is None:
            continue
        if rule.decision == "by_hand":
            return None
        at += max(timedelta(), wave.look_at - now) if wave.look_at else timedelta(minutes=rule.wait_minutes)
    if view.delivery.local_time is not None:
        at = max(at, view.delivery.local_time.at.replace(tzinfo=UTC) + local_time.LAST)
    return at
