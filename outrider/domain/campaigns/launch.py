"""Launch, pause, resume and cancel: the states of a campaign, each change audited in its transaction.

Owns the table of what may follow what; expansion and the end are the loops' (engine/fanout).
"""

from __future__ import annotations

import asyncio
import time
from uuid import UUID

import msgspec

from outrider.base.errors import Refused, RefusedMany
from outrider.base.settings import Settings
from outrider.contracts.actor import Actor
from outrider.data.db import Database, Role, UnitOfWork
from outrider.domain.audit.append import append
from outrider.domain.campaigns import audience, read
from outrider.domain.campaigns.draft import held_draft
from outrider.domain.campaigns.preflight import look
from outrider.domain.campaigns.rows import SQL
from outrider.domain.campaigns.views import CampaignView
from outrider.domain.limits import switches
from outrider.domain.limits.reasons import clean_reason
from outrider.domain.messages.cancel import cancel_campaign
from outrider.domain.messages.lanes import lane_for
from outrider.domain.senders.connections import Vault
from outrider.domain.templates import templates

_REST_WITHIN_S = 5.0
_REST_EVERY_S = 0.2


async def launch(uow: UnitOfWork, settings: Settings, vault: Vault, actor: Actor, campaign_id: UUID) -> CampaignView:
    """Start sending a draft: what it says and whom it would reach are frozen; the fan-out takes it from the commit on.

    Takes:   a unit of work of the engine role (it makes the campaign's lane).
    Raises:  Refused(not_found; not_draft, 409, with the state: launching twice changes nothing);
             RefusedMany(preflight codes, 409) naming everything that blocks it.
    """
    await held_draft(uow, campaign_id)
    return await start(uow, settings, vault, actor, campaign_id)


async def start(uow: UnitOfWork, settings: Settings, vault: Vault, actor: Actor, campaign_id: UUID) -> CampaignView:
    """As `launch`, of a campaign that the caller holds and that is a draft or scheduled.

    Raises:  RefusedMany(preflight codes, 409); nothing was written then.
    """
    found = await look(uow, settings, vault, campaign_id)
    blocking = [finding for finding in found.findings if finding.is_blocking]
    if blocking:
        raise RefusedMany([Refused(one.code, one.message, field="/preflight", status=409) for one in blocking])
    campaign = await read.get(uow, campaign_id)
    content_id, version = campaign.content_id, campaign.template_version
    if campaign.template_id is not None and version is None:
        latest = await templates.version_of(uow, campaign.template_id)
        content_id, version = latest.content_id, latest.version
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
    await SQL.launch_draft.run(uow.raw, uow.tenant, campaign_id, lane_id, content_id, version, told, frozen)
    details = {"members": found.member_count, "will_go": found.will_go_count, "template_version": version}
    await append(uow, actor, action="campaign.launch", target=("campaign", str(campaign_id)), details=details)
    return await read.get(uow, campaign_id)


async def pause(uow: UnitOfWork, actor: Actor, campaign_id: UUID, *, reason: str) -> CampaignView:
    """Stop a campaign where it is; nothing is lost. Pausing twice changes nothing but the audit log.

    Gives:   the campaign; after the commit call `switches.settle(db, "campaign", tenant, str(id))`.
    Raises:  Refused(not_found; not_running, 409).
    """
    state = await _held(uow, campaign_id, {"sending", "paused"})
    if state == "sending":
        await SQL.set_state.run(uow.raw, uow.tenant, campaign_id, "paused")
    await switches.pause(uow, actor, "campaign", str(campaign_id), reason)
    return await read.get(uow, campaign_id)


async def resume(uow: UnitOfWork, actor: Actor, campaign_id: UUID, *, reason: str) -> CampaignView:
    """Let a paused campaign go on where it was.

    Raises:  Refused(not_found; not_running, 409).
    """
    state = await _held(uow, campaign_id, {"sending", "paused"})
    if state == "paused":
        await SQL.set_state.run(uow.raw, uow.tenant, campaign_id, "sending")
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
    await append(
        uow,
        actor,
        action="campaign.cancel",
        target=("campaign", str(campaign_id)),
        reason=clean_reason(reason),
        details=details,
    )
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
