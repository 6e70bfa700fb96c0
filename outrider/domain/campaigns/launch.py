"""Launch, undo, pause, resume and cancel: the states of a campaign, each change audited in its transaction.

Owns the table of what may follow what; expansion and the end are the loops' (engine/fanout).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any
from uuid import UUID

import msgspec

from outrider.base.errors import Refused
from outrider.base.settings import Settings
from outrider.contracts.actor import Actor
from outrider.contracts.channel import Channel
from outrider.data.db import Database, Role, UnitOfWork
from outrider.domain.campaigns import approvals, audience, content, pacing, read, waves
from outrider.domain.campaigns.held import held_draft
from outrider.domain.campaigns.preflight import acknowledge, look, preflight, refuse
from outrider.domain.campaigns.rows import SQL
from outrider.domain.campaigns.told import note, tell
from outrider.domain.campaigns.views import CampaignView
from outrider.domain.limits import switches
from outrider.domain.limits.reasons import NOT_GIVEN, clean_reason
from outrider.domain.messages.cancel import cancel_campaign
from outrider.domain.messages.lanes import lane_for
from outrider.domain.senders.connections import Vault
from outrider.domain.tenants import tenants
from outrider.domain.tenants.policies import MOST_UNDO_S

_REST_WITHIN_S = 5.0
_REST_EVERY_S = 0.2


class Launch(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """How a draft is launched.

    undo_s       for how long the launch can be taken back; None: as the tenant's setting undo_window_s says
    acknowledge  findings of the preflight that are meant (empty_suppressions)
    """

    reason: Annotated[str, msgspec.Meta(max_length=500)] = NOT_GIVEN
    undo_s: Annotated[int, msgspec.Meta(ge=0, le=MOST_UNDO_S)] | None = None
    acknowledge: Annotated[list[str], msgspec.Meta(max_length=10)] = []


_AS_SET = Launch()


async def launch(
    uow: UnitOfWork,
    settings: Settings,
    vault: Vault,
    actor: Actor,
    campaign_id: UUID,
    wanted: Launch = _AS_SET,
    *,
    channels: Mapping[str, Channel],
) -> CampaignView:
    """Start sending a draft: what it says and whom it would reach are frozen.

    The fan-out takes it from the commit on, or when the launch cannot be taken back any more.

    Takes:   a unit of work of the engine role (it makes the campaign's lane).
    Raises:  Refused(not_found; not_draft, 409, with the state: launching twice changes nothing);
             RefusedMany(preflight codes, 409) naming everything that blocks it.
    """
    await held_draft(uow, campaign_id)
    undo_s = wanted.undo_s
    if undo_s is None:
        undo_s = int((await tenants.get(uow, uow.tenant)).settings["undo_window_s"])
    await acknowledge(uow, campaign_id, wanted.acknowledge)
    return await start(uow, settings, vault, actor, campaign_id, channels=channels, reason=wanted.reason, undo_s=undo_s)


async def start(
    uow: UnitOfWork,
    settings: Settings,
    vault: Vault,
    actor: Actor,
    campaign_id: UUID,
    *,
    channels: Mapping[str, Channel],
    reason: str = NOT_GIVEN,
    undo_s: int = 0,
) -> CampaignView:
    """As `launch`, of a campaign that the caller holds and that is a draft or scheduled.

    Raises:  RefusedMany(preflight codes, 409); nothing was written then.
    """
    found = await look(uow, settings, vault, campaign_id, channels=channels)
    refuse(found)
    campaign = await read.get(uow, campaign_id)
    said = await content.own(uow, campaign)
    lane_id = await lane_for(
        uow,
        tenant_id=uow.tenant,
        channel=campaign.channel,
        sender_id=campaign.sender_id,
        campaign_id=campaign_id,
        message_class="bulk",
    )
    told = msgspec.json.encode(found).decode()
    frozen = await audience.frozen(uow, campaign)
    await SQL.launch_draft.run(
        uow.raw, uow.tenant, campaign_id, lane_id, said.content_id, said.version, told, frozen, undo_s
    )
    await pacing.begin(uow, campaign_id, campaign.delivery, found.will_go_count)
    details: dict[str, Any] = {
        "members": found.member_count,
        "will_go": found.will_go_count,
        "template_version": said.version,
    }
    details |= {"undo_s": undo_s} if undo_s else {}
    details |= {"acknowledged": campaign.acknowledged} if campaign.acknowledged else {}
    await note(uow, actor, campaign_id, "launch", "campaign_launched", reason=reason, details=details)
    return await read.get(uow, campaign_id)


async def undo(uow: UnitOfWork, actor: Actor, campaign_id: UUID, *, reason: str) -> CampaignView:
    """Take a launch back while that is possible: the campaign is the draft it was, nothing of it was queued.

    Against the fan-out one of the two wins: it begins only when the time is over, under the same lock.

    Takes:   a unit of work of the engine role.
    Raises:  Refused(not_found; not_running, too_late_to_undo, 409).
    """
    row = await SQL.undo_turn.one(uow.raw, uow.tenant, campaign_id)
    if row is None:
        raise Refused("not_found", "no such campaign", field="/id", status=404)
    if row["state"] not in {"sending", "paused"}:
        raise Refused("not_running", f"the campaign is {row['state']}", field="/id", status=409, state=row["state"])
    if not row["is_in_time"] or row["is_begun"]:
        why = "its launch can no longer be taken back: pause or cancel it"
        raise Refused("too_late_to_undo", why, field="/id", status=409, undo_until=row["undo_until"])
    await SQL.undo_launch.run(uow.raw, uow.tenant, campaign_id)
    if row["state"] == "paused":
        await switches.resume(uow, actor, "campaign", str(campaign_id), "its launch was taken back")
    await note(uow, actor, campaign_id, "undo", "campaign_launch_undone", reason=reason)
    return await read.get(uow, campaign_id)


async def ask_approval(
    uow: UnitOfWork,
    settings: Settings,
    vault: Vault,
    who: approvals.Who,
    campaign_id: UUID,
    *,
    channels: Mapping[str, Channel],
    acknowledged: Sequence[str] = (),
    reason: str = NOT_GIVEN,
) -> approvals.ApprovalView:
    """Ask a second person to approve a draft, once nothing else stands in its way.

    Raises:  RefusedMany(preflight codes, 409); see `approvals.ask`.
    """
    await held_draft(uow, campaign_id)
    await acknowledge(uow, campaign_id, acknowledged)
    found = await preflight(uow, settings, vault, campaign_id, channels=channels)
    refuse(found, but=approvals.NEEDED)
    return await approvals.ask(uow, who, campaign_id, found, reason=reason)


async def pause(uow: UnitOfWork, actor: Actor, campaign_id: UUID, *, reason: str) -> CampaignView:
    """Stop a campaign where it is; nothing is lost. Pausing twice changes nothing but the audit log.

    Gives:   the campaign; after the commit call `switches.settle(db, "campaign", tenant, str(id))`.
    Raises:  Refused(not_found; not_running, 409).
    """
    state = await _held(uow, campaign_id, {"sending", "paused"})
    if state == "sending":
        await SQL.set_state.run(uow.raw, uow.tenant, campaign_id, "paused")
        await tell(uow, actor, campaign_id, "campaign_paused", reason=clean_reason(reason))
    await switches.pause(uow, actor, "campaign", str(campaign_id), reason)
    return await read.get(uow, campaign_id)


async def resume(uow: UnitOfWork, actor: Actor, campaign_id: UUID, *, reason: str) -> CampaignView:
    """Let a paused campaign go on where it was.

    Raises:  Refused(not_found; not_running, stopped_by_wave, 409).
    """
    state = await _held(uow, campaign_id, {"sending", "paused"})
    await waves.refuse_resume(uow, campaign_id)
    if state == "paused":
        await SQL.set_state.run(uow.raw, uow.tenant, campaign_id, "sending")
        await tell(uow, actor, campaign_id, "campaign_resumed", reason=clean_reason(reason))
    await switches.resume(uow, actor, "campaign", str(campaign_id), reason)
    return await read.get(uow, campaign_id)


async def cancel(uow: UnitOfWork, actor: Actor, campaign_id: UUID, *, reason: str) -> CampaignView:
    """End a campaign: what waits is withdrawn, what is on the wire ends by itself, nothing more is claimed.

    Takes:   a unit of work of the engine role. After the commit call `cancel_rest`.
    Raises:  Refused(not_found; not_running, 409) for one that is finished or cancelled.
    """
    state = await _held(uow, campaign_id, {"draft", "scheduled", "sending", "paused"})
    await SQL.set_state.run(uow.raw, uow.tenant, campaign_id, "cancelled")
    cancelled = 0
    if state not in {"draft", "scheduled"}:
        cancelled = await cancel_campaign(uow, uow.tenant, campaign_id)
        # what workers hold at this moment comes back to the queue: the switch keeps it from being claimed again
        await switches.pause(uow, actor, "campaign", str(campaign_id), reason)
    details = {"was": state, "cancelled": cancelled}
    await note(uow, actor, campaign_id, "cancel", "campaign_cancelled", reason=reason, details=details)
    return await read.get(uow, campaign_id)


async def cancel_rest(db: Database, tenant_id: UUID, actor: Actor, campaign_id: UUID) -> int:
    """After the commit of `cancel`: withdraw what workers handed back, then take the switch away.

    Gives:   how many messages are still open after 5 s, on the wire: the switch stays on for them.
    """
    await switches.settle(db, "campaign", tenant_id, str(campaign_id))
    deadline = time.monotonic() + _REST_WITHIN_S
    while open_count := await _open_after_cancelling(db, tenant_id, campaign_id):
        if time.monotonic() > deadline:
            return open_count
        await asyncio.sleep(_REST_EVERY_S)
    async with db.uow(Role.ENGINE, tenant_id) as uow:
        await switches.resume(uow, actor, "campaign", str(campaign_id), "the campaign is cancelled, nothing is open")
    return 0


async def _open_after_cancelling(db: Database, tenant_id: UUID, campaign_id: UUID) -> int:
    async with db.uow(Role.ENGINE, tenant_id) as uow:
        await cancel_campaign(uow, tenant_id, campaign_id)
    async with db.uow(Role.ENGINE, tenant_id) as uow:
        found = await read.progress(uow, campaign_id)
        return found.expanded_count - found.ended_count


async def _held(uow: UnitOfWork, campaign_id: UUID, allowed: set[str]) -> str:
    state: str | None = await SQL.lock_campaign.value(uow.raw, uow.tenant, campaign_id)
    if state is None:
        raise Refused("not_found", "no such campaign", field="/id", status=404)
    if state not in allowed:
        raise Refused("not_running", f"the campaign is {state}", field="/id", status=409, state=state)
    return state
