"""How campaigns go out: local hours, paces, canaries, A/B tests; what people decide about them; how variants fared."""

from __future__ import annotations

from typing import Annotated

import msgspec
from litestar import get, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from outrider.base.ids import parse_id
from outrider.data.db import Role
from outrider.data.runtime import Runtime
from outrider.domain.campaigns import going_out, pacing, shown, variants, waves
from outrider.domain.campaigns.delivery import Delivery
from outrider.domain.campaigns.shown import DeliveryView
from outrider.domain.limits import switches
from outrider.domain.limits.reasons import NOT_GIVEN
from outrider.interfaces.api.v1.campaigns import ReasonIn
from outrider.interfaces.auth import Principal, needs

_READ = needs("viewer", "campaigns:read")
_WRITE = needs("operator", "campaigns:write")


class WinnerIn(msgspec.Struct, forbid_unknown_fields=True):
    """Which variant the rest gets, by its name, and why."""

    variant: Annotated[str, msgspec.Meta(min_length=1, max_length=60)]
    reason: Annotated[str, msgspec.Meta(max_length=500)] = NOT_GIVEN


class VariantResults(msgspec.Struct, frozen=True):
    """How the variants of a campaign fared; empty when it compares nothing."""

    items: list[variants.VariantResult]


@get("/campaigns/{campaign_id:str}/delivery", guards=[_READ])
async def seen(
    campaign_id: FromPath[str], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> DeliveryView:
    """Show how a campaign goes out, and how far its waves are."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await shown.shown(uow, parse_id(campaign_id, "campaign_id"))


@put("/campaigns/{campaign_id:str}/delivery", guards=[_WRITE])
async def kept(
    campaign_id: FromPath[str],
    data: JSONBody[Delivery],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
) -> DeliveryView:
    """Say of a draft how it goes out, in place of what was said before; its preflight has to be made again."""
    identifier = parse_id(campaign_id, "campaign_id")
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await going_out.keep(uow, runtime.channels, runtime.renderer, principal.actor, identifier, data)


@post("/campaigns/{campaign_id:str}/go-on", status_code=200, guards=[_WRITE])
async def gone_on(
    campaign_id: FromPath[str],
    data: JSONBody[ReasonIn],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
) -> DeliveryView:
    """Let the rest go before anybody looked, or although the canary stopped it."""
    identifier = parse_id(campaign_id, "campaign_id")
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        await waves.go_on(uow, principal.actor, identifier, reason=data.reason)
        return await shown.shown(uow, identifier)


@post("/campaigns/{campaign_id:str}/stop", status_code=200, guards=[_WRITE])
async def stopped(
    campaign_id: FromPath[str],
    data: JSONBody[ReasonIn],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
) -> DeliveryView:
    """Stop a campaign before its next wave; when this answers, nothing more of it is claimed."""
    identifier = parse_id(campaign_id, "campaign_id")
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        await waves.stop(uow, principal.actor, identifier, reason=data.reason)
        found = await shown.shown(uow, identifier)
    await switches.settle(runtime.db, "campaign", principal.tenant_id, str(identifier))
    return found


@post("/campaigns/{campaign_id:str}/winner", status_code=200, guards=[_WRITE])
async def chosen(
    campaign_id: FromPath[str],
    data: JSONBody[WinnerIn],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
) -> DeliveryView:
    """Choose the variant that the rest gets, before the figures do; once chosen, it stays."""
    identifier = parse_id(campaign_id, "campaign_id")
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        await waves.choose(uow, principal.actor, identifier, data.variant, reason=data.reason)
        return await shown.shown(uow, identifier)


@put("/campaigns/{campaign_id:str}/pace", guards=[_WRITE])
async def paced(
    campaign_id: FromPath[str],
    data: JSONBody[pacing.PaceChange],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
) -> DeliveryView:
    """Change the pace of a campaign that was launched; spread over hours means what is left, from now on."""
    identifier = parse_id(campaign_id, "campaign_id")
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        await pacing.change(uow, principal.actor, identifier, data)
        return await shown.shown(uow, identifier)


@get("/campaigns/{campaign_id:str}/results/variants", guards=[_READ])
async def by_variant(
    campaign_id: FromPath[str], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> VariantResults:
    """List how each variant fared: what an A/B test is decided by, and what the rest added since."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return VariantResults(await variants.fared(uow, parse_id(campaign_id, "campaign_id")))


@get("/messages/{message_id:str}/variant", guards=[needs("viewer", "messages:read")])
async def of_message(
    message_id: FromPath[str], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> variants.MessageVariant:
    """Say which variant of its campaign a message is."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await variants.of_message(uow, parse_id(message_id, "message_id"))


ROUTES = [seen, kept, gone_on, stopped, chosen, paced, by_variant, of_message]
