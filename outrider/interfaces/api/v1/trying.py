"""A campaign before it is sent: what a recipient would get of it or of a variant, and a test send."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from outrider.base.ids import parse_id
from outrider.data.db import Role, UnitOfWork
from outrider.data.runtime import Runtime
from outrider.domain.campaigns import read, trying
from outrider.domain.campaigns.trying import CampaignPreview, Tried
from outrider.domain.campaigns.views import CampaignView
from outrider.domain.contacts.views import ContactView
from outrider.domain.messages import trials
from outrider.domain.templates.preview import variables_of
from outrider.interfaces.api.v1.letters import contact_of
from outrider.interfaces.api.v1.messages import tell_ready
from outrider.interfaces.auth import Principal, needs

Variant = Annotated[str, msgspec.Meta(min_length=1, max_length=60)]


class CampaignPreviewIn(msgspec.Struct, forbid_unknown_fields=True):
    """Which variant, by its name (the winner, else the first), and for whom: a contact, or variables on top of it."""

    variant: Variant | None = None
    contact_id: UUID | None = None
    variables: dict[str, Any] = {}


class CampaignTestIn(CampaignPreviewIn, forbid_unknown_fields=True, kw_only=True):
    """A test send: to the tenant's users or to OUTRIDER_TEST_ADDRESSES."""

    to: Annotated[list[str], msgspec.Meta(min_length=1, max_length=trials.MOST_ADDRESSES)]


@post("/campaigns/{campaign_id:str}/preview", status_code=200, guards=[needs("operator", "campaigns:read")])
async def previewed(
    campaign_id: FromPath[str],
    data: JSONBody[CampaignPreviewIn],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
) -> CampaignPreview:
    """Show what a recipient would get, of which variant and at which price: made as the worker makes it, not sent."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        campaign, contact = await _asked(uow, principal, campaign_id, data)
        made = await trying.sample(
            uow, runtime.settings, runtime.channels, campaign, contact, data.variables, variant=data.variant
        )
    seen = await trying.rendered(made, runtime.renderer)
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await trying.priced(uow, made, seen)


@post("/campaigns/{campaign_id:str}/test", status_code=202, guards=[needs("operator", "campaigns:write")])
async def tried(
    campaign_id: FromPath[str],
    data: JSONBody[CampaignTestIn],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
) -> Tried:
    """Send what the campaign, or a variant, says to people of one's own, marked as a test, through the queue."""
    async with runtime.db.uow(Role.ENGINE, principal.tenant_id) as uow:
        campaign, contact = await _asked(uow, principal, campaign_id, data)
        done = await trying.send(
            uow,
            runtime.channels,
            runtime.renderer,
            principal.actor,
            campaign,
            data.to,
            variables_of(contact, "", data.variables, campaign.channel),
            variant=data.variant,
            allowed=runtime.settings.test_addresses,
        )
    runtime.bell.ring("ready", lambda: tell_ready(runtime.db))
    return done


async def _asked(
    uow: UnitOfWork, principal: Principal, campaign_id: str, data: CampaignPreviewIn
) -> tuple[CampaignView, ContactView | None]:
    """The campaign, and for whom it is made.

    Raises:  Refused(not_found, 404; forbidden, 403).
    """
    campaign = await read.get(uow, parse_id(campaign_id, "campaign_id"))
    return campaign, await contact_of(uow, principal, data.contact_id)


ROUTES = [previewed, tried]
