"""Reading campaigns and how far they are."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

import asyncpg
import msgspec

from outrider.base.errors import Refused
from outrider.data.db import UnitOfWork
from outrider.domain.campaigns.delivery import Delivery
from outrider.domain.campaigns.rows import SQL
from outrider.domain.campaigns.shown import DeliveryView, estimated_at, shown
from outrider.domain.campaigns.views import CampaignView, Expansion, Progress, campaign_view
from outrider.domain.limits import switches
from outrider.domain.messages import counts
from outrider.domain.messages.states import END_STATES

NEWEST = UUID(int=2**128 - 1)
STATES = ("draft", "scheduled", "sending", "paused", "finished", "cancelled")


async def get(uow: UnitOfWork, campaign_id: UUID) -> CampaignView:
    """One campaign.

    Raises:  Refused(not_found).
    """
    return campaign_view(await row_of(uow, campaign_id))


async def listed(
    uow: UnitOfWork, *, limit: int, before: UUID | None = None, state: str | None = None
) -> list[CampaignView]:
    """Campaigns, newest first, `limit` (1..1000) of those before `before`.

    Raises:  Refused(unknown_state).
    """
    if state is not None and state not in STATES:
        raise Refused("unknown_state", f"must be one of {', '.join(STATES)}", field="?state")
    rows = await SQL.campaigns_page.many(uow.raw, uow.tenant, before or NEWEST, limit, state)
    return [campaign_view(row) for row in rows]


async def progress(uow: UnitOfWork, campaign_id: UUID) -> Progress:
    """How far a campaign is, counted from the rollups: exact at every moment.

    Raises:  Refused(not_found).
    """
    row = await row_of(uow, campaign_id)
    campaign = campaign_view(row)
    by_state = await counts.of_campaign(uow, uow.tenant, campaign_id)
    ended = sum(count for state, count in by_state.items() if state in END_STATES)
    members = campaign.preflight.member_count if campaign.preflight else 0
    total = campaign.expanded_count if campaign.expanded_at else max(campaign.expanded_count, members)
    until = campaign.finished_at or row["read_at"]
    begun_at = begun(campaign)
    elapsed_s = (until - begun_at).total_seconds() if begun_at else 0.0
    rate_per_s = ended / elapsed_s if elapsed_s > 0 else 0.0
    undo_left_s = undo_left(campaign, row["read_at"])
    is_open = campaign.state == "sending" and ended < total
    queueing = expansion(campaign, await SQL.fan_out_look.one(uow.raw, uow.tenant, campaign_id), total, row["read_at"])
    delivery = None if campaign.delivery == Delivery() else await shown(uow, campaign_id)
    if delivery is not None and delivery.waits_for is not None and queueing.state in {"running", "waiting"}:
        queueing = msgspec.structs.replace(queueing, state="between_waves", estimated_at=None)
    return Progress(
        id=campaign.id,
        state=campaign.state,
        is_finished=campaign.state == "finished",
        is_expanded=campaign.expanded_at is not None,
        total_count=total,
        expanded_count=campaign.expanded_count,
        no_address_count=campaign.no_address_count,
        ended_count=ended,
        counts=by_state,
        paused_by=await paused_by(uow, campaign),
        rate_per_s=round(rate_per_s, 3),
        estimated_at=_estimated_at(delivery, row["read_at"], total - ended, rate_per_s) if is_open else None,
        expansion=queueing,
        launched_at=campaign.launched_at,
        finished_at=campaign.finished_at,
        undo_until=campaign.undo_until if undo_left_s is not None else None,
        undo_left_s=undo_left_s,
        delivery=delivery,
    )


def _estimated_at(delivery: DeliveryView | None, now: datetime, left: int, rate_per_s: float) -> datetime | None:
    if delivery is not None:
        return estimated_at(delivery, now, left, rate_per_s)
    return now + timedelta(seconds=left / rate_per_s) if rate_per_s else None


def begun(campaign: CampaignView) -> datetime | None:
    """From when on it could be sent: its launch, or the end of the time in which that could be taken back."""
    return campaign.undo_until or campaign.launched_at


def undo_left(campaign: CampaignView, now: datetime) -> float | None:
    """How many seconds its launch can still be taken back; None when it cannot."""
    if campaign.state not in {"sending", "paused"} or campaign.undo_until is None:
        return None
    left_s = (campaign.undo_until - now).total_seconds()
    return round(left_s, 1) if left_s > 0 else None


def expansion(campaign: CampaignView, row: asyncpg.Record, total: int, now: datetime) -> Expansion:
    """How far the list is queued; pure.

    Takes:   row   of `fan_out_look`
             total recipients expected
    """
    looked_at = campaign.expanded_count + campaign.no_address_count
    until = campaign.expanded_at or row["served_at"] or now
    begun_at = begun(campaign)
    elapsed_s = (until - begun_at).total_seconds() if begun_at else 0.0
    rate_per_s = looked_at / elapsed_s if elapsed_s > 0 else 0.0
    state = _queueing(campaign, row, now)
    left = max(0, total - looked_at)
    return Expansion(
        state=state,
        queued_count=campaign.expanded_count,
        no_address_count=campaign.no_address_count,
        total_count=total,
        rate_per_s=round(rate_per_s, 3),
        estimated_at=now + timedelta(seconds=left / rate_per_s) if state == "running" and rate_per_s else None,
        last_page_at=row["served_at"],
        error=row["trouble"],
        failed_at=row["trouble_at"],
    )


def _queueing(campaign: CampaignView, row: asyncpg.Record, now: datetime) -> str:
    if campaign.state in {"draft", "scheduled"}:
        return "draft"
    if campaign.expanded_at is not None:
        return "complete"
    if campaign.state in {"cancelled", "finished"}:
        return "stopped"
    if campaign.state == "paused":
        return "paused"
    if undo_left(campaign, now) is not None:
        return "undoable"
    if row["no_room_at"] is not None:
        return "waiting_for_room"
    if row["trouble"] is not None:
        return "failing"
    return "waiting" if row["served_at"] is None else "running"


async def paused_by(uow: UnitOfWork, campaign: CampaignView) -> list[str]:
    """Scopes of the kill switch that would hold this campaign's messages now."""
    own = {"channel": campaign.channel, "sender": str(campaign.sender_id), "campaign": str(campaign.id)}
    return [
        switch.scope
        for switch in await switches.listed(uow)
        if switch.scope in {"installation", "tenant"} or own.get(switch.scope) == switch.scope_id
    ]


async def row_of(uow: UnitOfWork, campaign_id: UUID) -> asyncpg.Record:
    """The row of a campaign.

    Raises:  Refused(not_found).
    """
    row = await SQL.campaign_get.one(uow.raw, uow.tenant, campaign_id)
    if row is None:
        raise Refused("not_found", "no such campaign", field="/id", status=404)
    return row
