"""What is noticed: openings and clicks, switched on and off per tenant, sender and campaign; public web versions."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import delete, get, patch, put
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from outrider.base.ids import parse_id
from outrider.data.db import Role
from outrider.data.runtime import Runtime
from outrider.domain.limits.reasons import NOT_GIVEN, clean_reason
from outrider.domain.tracking import choices, web_versions
from outrider.domain.tracking.choices import Choice, Scope
from outrider.interfaces.auth import Principal, needs

Reason = Annotated[str, msgspec.Meta(max_length=500)]


class ChoiceIn(choices.ChoiceChange, forbid_unknown_fields=True):
    """What shall be different; what is not named stays. `transactional` is a tenant's choice alone."""

    reason: Reason = NOT_GIVEN


class WebVersionIn(msgspec.Struct, forbid_unknown_fields=True):
    """What stands for a recipient's values on the public page."""

    variables: dict[str, Any] = {}


class WebVersion(msgspec.Struct):
    """A campaign's public page: whoever has the address may read it, nobody finds it."""

    url: str
    variables: dict[str, Any]
    created_by: str
    created_at: datetime


@get("/tracking", guards=[needs("viewer", "tenant:read")])
async def of_tenant(principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]) -> Choice:
    """Say what the tenant wants noticed: openings, clicks, also of messages that are not advertising."""
    return await _read(runtime, principal, "tenant", principal.tenant_id)


@patch("/tracking", guards=[needs("admin", "tenant:write")])
async def choose_for_tenant(
    data: JSONBody[ChoiceIn], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> Choice:
    """Switch openings and clicks on or off for the whole tenant."""
    return await _choose(runtime, principal, "tenant", principal.tenant_id, data)


@get("/senders/{sender_id:str}/tracking", guards=[needs("viewer", "senders:read")])
async def of_sender(
    sender_id: FromPath[str], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> Choice:
    """Say what a sender wants noticed; what the tenant switched off stays off."""
    return await _read(runtime, principal, "sender", parse_id(sender_id, "sender_id"))


@patch("/senders/{sender_id:str}/tracking", guards=[needs("admin", "senders:write")])
async def choose_for_sender(
    sender_id: FromPath[str],
    data: JSONBody[ChoiceIn],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
) -> Choice:
    """Switch openings and clicks on or off for one sender."""
    return await _choose(runtime, principal, "sender", parse_id(sender_id, "sender_id"), data)


@get("/campaigns/{campaign_id:str}/tracking", guards=[needs("viewer", "campaigns:read")])
async def of_campaign(
    campaign_id: FromPath[str], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> Choice:
    """Say what a campaign wants noticed; what tenant or sender switched off stays off."""
    return await _read(runtime, principal, "campaign", parse_id(campaign_id, "campaign_id"))


@patch("/campaigns/{campaign_id:str}/tracking", guards=[needs("operator", "campaigns:write")])
async def choose_for_campaign(
    campaign_id: FromPath[str],
    data: JSONBody[ChoiceIn],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
) -> Choice:
    """Switch openings and clicks on or off for one campaign, also while it is being sent."""
    return await _choose(runtime, principal, "campaign", parse_id(campaign_id, "campaign_id"), data)


@get("/campaigns/{campaign_id:str}/web-version", guards=[needs("viewer", "campaigns:read")])
async def web_version(
    campaign_id: FromPath[str], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> WebVersion:
    """Give the address of a campaign's public page; 404 when it has none."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return _shown(runtime, uow.tenant, await web_versions.get(uow, parse_id(campaign_id, "campaign_id")))


@put("/campaigns/{campaign_id:str}/web-version", guards=[needs("operator", "campaigns:write")])
async def publish(
    campaign_id: FromPath[str],
    data: JSONBody[WebVersionIn],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
) -> WebVersion:
    """Give a launched campaign a public page, or other values to the one it has; its address stays."""
    identifier = parse_id(campaign_id, "campaign_id")
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        found = await web_versions.publish(uow, principal.actor, identifier, data.variables)
        return _shown(runtime, uow.tenant, found)


@delete("/campaigns/{campaign_id:str}/web-version", status_code=204, guards=[needs("operator", "campaigns:write")])
async def withdraw(
    campaign_id: FromPath[str], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> None:
    """Take a campaign's public page away; its address never leads anywhere again."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        await web_versions.withdraw(uow, principal.actor, parse_id(campaign_id, "campaign_id"))


async def _read(runtime: Runtime, principal: Principal, scope: Scope, scope_id: UUID) -> Choice:
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await choices.get(uow, scope, scope_id)


async def _choose(runtime: Runtime, principal: Principal, scope: Scope, scope_id: UUID, data: ChoiceIn) -> Choice:
    change = choices.ChoiceChange(data.opens, data.clicks, data.transactional)
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await choices.choose(uow, principal.actor, scope, scope_id, change, reason=clean_reason(data.reason))


def _shown(runtime: Runtime, tenant_id: UUID, found: web_versions.Published) -> WebVersion:
    signer = web_versions.signer_of(runtime.keyring)
    url = web_versions.url_of(signer, runtime.settings.public_url, tenant_id, found)
    return WebVersion(url, found.variables, found.created_by, found.created_at)


ROUTES = [
    of_tenant,
    choose_for_tenant,
    of_sender,
    choose_for_sender,
    of_campaign,
    choose_for_campaign,
    web_version,
    publish,
    withdraw,
]
