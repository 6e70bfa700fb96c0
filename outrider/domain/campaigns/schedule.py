"""Scheduling: a campaign waits for a moment and is then launched by itself, once, by the database's clock.

Owns the state `scheduled`. A scheduled campaign is checked twice: when it is scheduled, so that people learn at once
what stands in its way, and when its moment comes, because the world has changed since. Whom it goes to is frozen at
the launch, never before.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec

from outrider.base import failpoint
from outrider.base.errors import Refused, RefusedMany
from outrider.base.moments import moment
from outrider.base.settings import Settings
from outrider.contracts.actor import Actor
from outrider.contracts.channel import Channel
from outrider.data.db import Database, Role, UnitOfWork
from outrider.domain.campaigns import launch, read
from outrider.domain.campaigns.held import held_draft
from outrider.domain.campaigns.preflight import acknowledge, preflight, refuse
from outrider.domain.campaigns.rows import SQL
from outrider.domain.campaigns.told import note
from outrider.domain.campaigns.views import CampaignView
from outrider.domain.limits.reasons import NOT_GIVEN
from outrider.domain.senders.connections import Vault

LOOP = Actor("system", "campaign schedule")
_LONGEST_TROUBLE = 500

Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class Schedule(msgspec.Struct, forbid_unknown_fields=True):
    """When a campaign is launched by itself: in the future, at most 366 days ahead."""

    launch_at: Moment
    reason: Annotated[str, msgspec.Meta(max_length=500)] = NOT_GIVEN
    acknowledge: Annotated[list[str], msgspec.Meta(max_length=10)] = []


async def schedule(
    uow: UnitOfWork,
    settings: Settings,
    vault: Vault,
    actor: Actor,
    campaign_id: UUID,
    wanted: Schedule,
    *,
    channels: Mapping[str, Channel],
) -> CampaignView:
    """Let a draft wait for its moment; until then it can be taken back and nothing of it is queued.

    Raises:  Refused(not_found; not_draft, 409; not_ahead, expires_before naming launch_at);
             RefusedMany(preflight codes, 409) naming everything that would block it now.
    """
    await held_draft(uow, campaign_id)
    campaign = await read.get(uow, campaign_id)
    moment(wanted.launch_at, "/launch_at")
    if campaign.expires_at is not None and campaign.expires_at <= wanted.launch_at:
        raise Refused("expires_before", "the campaign expires before it would be launched", field="/launch_at")
    await acknowledge(uow, campaign_id, wanted.acknowledge)
    refuse(await preflight(uow, settings, vault, campaign_id, channels=channels))
    if await SQL.schedule_draft.value(uow.raw, uow.tenant, campaign_id, wanted.launch_at) is None:
        raise Refused("not_ahead", "must be in the future, at most 366 days ahead", field="/launch_at")
    view = await read.get(uow, campaign_id)
    details: dict[str, Any] = {"launch_at": wanted.launch_at.isoformat()}
    details |= {"acknowledged": view.acknowledged} if view.acknowledged else {}
    await note(uow, actor, campaign_id, "schedule", "campaign_scheduled", reason=wanted.reason, details=details)
    return view


async def unschedule(uow: UnitOfWork, actor: Actor, campaign_id: UUID, *, reason: str) -> CampaignView:
    """Make a scheduled campaign a draft again. Against its launch one of the two wins, and the other is told.

    Raises:  Refused(not_found; not_scheduled, 409, with the state).
    """
    state = await SQL.lock_campaign.value(uow.raw, uow.tenant, campaign_id)
    if state is None:
        raise Refused("not_found", "no such campaign", field="/id", status=404)
    if state != "scheduled":
        raise Refused("not_scheduled", f"the campaign is {state}", field="/id", status=409, state=state)
    await SQL.unschedule.run(uow.raw, uow.tenant, campaign_id, None)
    await note(uow, actor, campaign_id, "unschedule", "campaign_unscheduled", reason=reason)
    return await read.get(uow, campaign_id)


async def launch_due(
    db: Database,
    settings: Settings,
    vault: Vault,
    tenant_id: UUID,
    campaign_id: UUID,
    *,
    channels: Mapping[str, Channel],
) -> str | None:
    """Launch a campaign whose moment has come, in one transaction; a kill half-way leaves it waiting.

    Gives:   `launched`; `draft` when the preflight refuses it: it says why and waits for people; None when it was
             taken back, is not due or is another worker's.
    """
    async with db.uow(Role.ENGINE, tenant_id) as uow:
        if await SQL.launch_turn.value(uow.raw, tenant_id, campaign_id) is None:
            return None
        try:
            await launch.start(uow, settings, vault, LOOP, campaign_id, channels=channels)
        except RefusedMany as refused:
            why = "; ".join(f"{each.code}: {each.message}" for each in refused.errors)[:_LONGEST_TROUBLE]
            await SQL.unschedule.run(uow.raw, tenant_id, campaign_id, why)
            await note(uow, LOOP, campaign_id, "launch_refused", "campaign_launch_refused", details={"why": why})
            return "draft"
        if failpoint.ARMED:
            failpoint.hit("launch.before_commit")
    if failpoint.ARMED:
        failpoint.hit("launch.committed")
    return "launched"
