"""Campaigns: drafted, checked, launched, paused, cancelled and watched."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import msgspec
from litestar import delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from outrider.base.ids import parse_id
from outrider.data.db import Role
from outrider.data.link_dial import Dialled, dial
from outrider.data.runtime import Runtime
from outrider.domain.callbacks import examine
from outrider.domain.campaigns import draft, launch, links, preflight, read, retries, schedule, sheet
from outrider.domain.campaigns.sheet import Sheet
from outrider.domain.campaigns.views import CampaignView, Preflight, Progress
from outrider.domain.limits import switches
from outrider.domain.limits.reasons import NOT_GIVEN
from outrider.domain.senders import connections, senders
from outrider.domain.senders.connections import StageView
from outrider.interfaces.api.paging import Cursor, Limit, Page, cursor_of, page, read_cursor
from outrider.interfaces.api.v1.connections import vault_of
from outrider.interfaces.auth import Principal, needs

StateFilter = Annotated[str | None, QueryParameter(name="state", description="Only campaigns in this state.")]


_AS_SET = launch.Launch()
"""A launch without a body."""


class PreflightIn(msgspec.Struct, forbid_unknown_fields=True):
    """Whether to try the sender's connection too (up to 20 s), and its links' servers (up to 30 s); nothing is sent."""

    examine_connection: bool = False
    dial_links: bool = False


class ReasonIn(msgspec.Struct, forbid_unknown_fields=True):
    """Why; kept in the audit log."""

    reason: Annotated[str, msgspec.Meta(max_length=500)] = NOT_GIVEN


@post("/campaigns", status_code=201, guards=[needs("operator", "campaigns:write")])
async def create(
    data: JSONBody[draft.NewCampaign], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> CampaignView:
    """Make a draft."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await draft.create(uow, principal.actor, data)


@get("/campaigns", guards=[needs("viewer", "campaigns:read")])
async def listed(
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
    in_state: FromQuery[StateFilter] = None,
    limit: FromQuery[Limit] = 50,
    cursor: FromQuery[Cursor] = "",
) -> Page[CampaignView]:
    """List campaigns, newest first."""
    before = read_cursor(cursor, tuple[UUID])
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        items = await read.listed(uow, limit=limit, before=before[0] if before else None, state=in_state)
    return page(items, limit, cursor_of(items[-1].id) if items else "")


@get("/campaigns/{campaign_id:str}", guards=[needs("viewer", "campaigns:read")])
async def shown(
    campaign_id: FromPath[str], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> CampaignView:
    """Show one campaign."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await read.get(uow, parse_id(campaign_id, "campaign_id"))


@patch("/campaigns/{campaign_id:str}", guards=[needs("operator", "campaigns:write")])
async def changed(
    campaign_id: FromPath[str],
    data: JSONBody[draft.CampaignChange],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
) -> CampaignView:
    """Change a draft; its preflight has to be made again."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await draft.update(uow, principal.actor, parse_id(campaign_id, "campaign_id"), data)


@delete("/campaigns/{campaign_id:str}", status_code=204, guards=[needs("operator", "campaigns:write")])
async def deleted(
    campaign_id: FromPath[str], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> None:
    """Delete a draft; launched campaigns stay."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        await draft.delete(uow, principal.actor, parse_id(campaign_id, "campaign_id"))


@post("/campaigns/{campaign_id:str}/preflight", status_code=200, guards=[needs("operator", "campaigns:write")])
async def preflighted(
    campaign_id: FromPath[str],
    data: JSONBody[PreflightIn],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
) -> Preflight:
    """Say whom the campaign would reach and what stands in its way."""
    identifier = parse_id(campaign_id, "campaign_id")
    stages = await _stages(runtime, principal, identifier) if data.examine_connection else None
    dialled = await _dialled(runtime, principal, identifier) if data.dial_links else ()
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await preflight.preflight(
            uow,
            runtime.settings,
            vault_of(runtime),
            identifier,
            channels=runtime.channels,
            stages=stages,
            dialled=dialled,
        )


@post(
    "/campaigns/{campaign_id:str}/launch",
    status_code=202,
    guards=[needs("operator", "campaigns:write")],
    opt={"body_is_optional": True},
)
async def launched(
    campaign_id: FromPath[str],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
    data: JSONBody[launch.Launch] = _AS_SET,
) -> CampaignView:
    """Start sending; refused with everything that blocks it, and with 409 when it was launched already."""
    identifier = parse_id(campaign_id, "campaign_id")
    async with runtime.db.uow(Role.ENGINE, principal.tenant_id) as uow:
        return await launch.launch(
            uow,
            runtime.settings,
            vault_of(runtime),
            principal.actor,
            identifier,
            data,
            channels=runtime.channels,
        )


@post("/campaigns/{campaign_id:str}/undo", status_code=200, guards=[needs("operator", "campaigns:write")])
async def undone(
    campaign_id: FromPath[str],
    data: JSONBody[ReasonIn],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
) -> CampaignView:
    """Take a launch back before anything was queued: it is a draft again; 409 when that is no longer possible."""
    async with runtime.db.uow(Role.ENGINE, principal.tenant_id) as uow:
        return await launch.undo(uow, principal.actor, parse_id(campaign_id, "campaign_id"), reason=data.reason)


@post("/campaigns/{campaign_id:str}/schedule", status_code=200, guards=[needs("operator", "campaigns:write")])
async def scheduled(
    campaign_id: FromPath[str],
    data: JSONBody[schedule.Schedule],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
) -> CampaignView:
    """Launch a draft by itself at a moment; refused with everything that would block it now."""
    identifier = parse_id(campaign_id, "campaign_id")
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await schedule.schedule(
            uow,
            runtime.settings,
            vault_of(runtime),
            principal.actor,
            identifier,
            data,
            channels=runtime.channels,
        )


@post("/campaigns/{campaign_id:str}/unschedule", status_code=200, guards=[needs("operator", "campaigns:write")])
async def unscheduled(
    campaign_id: FromPath[str],
    data: JSONBody[ReasonIn],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
) -> CampaignView:
    """Make a scheduled campaign a draft again; 409 when it was launched meanwhile."""
    identifier = parse_id(campaign_id, "campaign_id")
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await schedule.unschedule(uow, principal.actor, identifier, reason=data.reason)


@post("/campaigns/{campaign_id:str}/pause", status_code=200, guards=[needs("operator", "campaigns:write")])
async def paused(
    campaign_id: FromPath[str],
    data: JSONBody[ReasonIn],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
) -> CampaignView:
    """Stop a campaign where it is; when this answers, nothing more of it is claimed."""
    identifier = parse_id(campaign_id, "campaign_id")
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        found = await launch.pause(uow, principal.actor, identifier, reason=data.reason)
    await switches.settle(runtime.db, "campaign", principal.tenant_id, str(identifier))
    return found


@post("/campaigns/{campaign_id:str}/resume", status_code=200, guards=[needs("operator", "campaigns:write")])
async def resumed(
    campaign_id: FromPath[str],
    data: JSONBody[ReasonIn],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
) -> CampaignView:
    """Let a paused campaign go on where it was."""
    identifier = parse_id(campaign_id, "campaign_id")
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await launch.resume(uow, principal.actor, identifier, reason=data.reason)


@post("/campaigns/{campaign_id:str}/cancel", status_code=200, guards=[needs("operator", "campaigns:write")])
async def cancelled(
    campaign_id: FromPath[str],
    data: JSONBody[ReasonIn],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
) -> Progress:
    """End a campaign: what waits is withdrawn, what is on the wire ends by itself."""
    identifier = parse_id(campaign_id, "campaign_id")
    async with runtime.db.uow(Role.ENGINE, principal.tenant_id) as uow:
        was = (await read.get(uow, identifier)).state
        await launch.cancel(uow, principal.actor, identifier, reason=data.reason)
    if was not in {"draft", "scheduled"}:
        await launch.cancel_rest(runtime.db, principal.tenant_id, principal.actor, identifier)
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await read.progress(uow, identifier)


@get("/campaigns/{campaign_id:str}/progress", guards=[needs("viewer", "campaigns:read")])
async def progress(
    campaign_id: FromPath[str], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> Progress:
    """Say how far a campaign is, by state of its messages."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await read.progress(uow, parse_id(campaign_id, "campaign_id"))


@get("/campaigns/{campaign_id:str}/retry", guards=[needs("viewer", "campaigns:read")])
async def retry_due(
    campaign_id: FromPath[str], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> retries.Due:
    """Count whom a retry would be sent to now, and what failed for good."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await retries.due(uow, parse_id(campaign_id, "campaign_id"))


@post("/campaigns/{campaign_id:str}/retry", status_code=202, guards=[needs("operator", "campaigns:write")])
async def retried(
    campaign_id: FromPath[str],
    data: JSONBody[retries.Retry],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
) -> CampaignView:
    """Send again to those whose message failed by a passing cause; confirmed by their number. Gives the retry."""
    identifier = parse_id(campaign_id, "campaign_id")
    async with runtime.db.uow(Role.ENGINE, principal.tenant_id) as uow:
        return await retries.retry(uow, runtime.settings, principal.actor, identifier, data)


@get("/campaigns/{campaign_id:str}/sheet", guards=[needs("viewer", "campaigns:read")])
async def sheet_shown(
    campaign_id: FromPath[str], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> Sheet:
    """Put what the preflight promised beside what happened, and explain every difference."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await sheet.of_campaign(uow, parse_id(campaign_id, "campaign_id"))


async def _dialled(runtime: Runtime, principal: Principal, campaign_id: UUID) -> list[Dialled]:
    """The campaign's links, tried; no transaction is open while they are."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        urls = await links.of_campaign(uow, runtime.channels, campaign_id)
    return await dial(urls, runtime.egress)


async def _stages(runtime: Runtime, principal: Principal, campaign_id: UUID) -> list[StageView]:
    """The sender's connection, tried; no transaction is open while it is dialled."""
    vault = vault_of(runtime)
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        campaign = await read.get(uow, campaign_id)
        sender = await senders.get(uow, campaign.sender_id)
        account = await connections.opened(uow, vault, sender.connection_id)
    return await examine.examined(runtime, account, principal.tenant_id, sender.connection_id)


ROUTES = [
    create,
    listed,
    shown,
    changed,
    deleted,
    preflighted,
    launched,
    undone,
    scheduled,
    unscheduled,
    paused,
    resumed,
    cancelled,
    progress,
    retry_due,
    retried,
    sheet_shown,
]
