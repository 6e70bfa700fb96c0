"""What gates are set to for one campaign; a tenant's own settings are changed with the tenant."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from litestar import get, patch
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from outrider.base.ids import parse_id
from outrider.data.db import Role
from outrider.data.runtime import Runtime
from outrider.domain.limits import gates
from outrider.domain.limits.reasons import NOT_GIVEN
from outrider.domain.messages import holds
from outrider.interfaces.auth import Principal, needs


class CampaignGatesIn(msgspec.Struct, forbid_unknown_fields=True):
    """Settings of gates to change; what is not named stays, null follows the tenant again."""

    settings: dict[str, Any]
    reason: Annotated[str, msgspec.Meta(max_length=500)] = NOT_GIVEN


@get("/campaigns/{campaign_id:str}/gates", guards=[needs("viewer", "campaigns:read")])
async def of_campaign(
    campaign_id: FromPath[str], principal: NamedDependency[Principal], runtime: NamedDependency[Runtime]
) -> gates.CampaignGates:
    """Show the settings of gates that hold for a campaign, and which of them are its own."""
    identifier = parse_id(campaign_id, "campaign_id")
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await gates.of_campaign(uow, identifier, gates.campaign_fields(runtime.gates))


@patch("/campaigns/{campaign_id:str}/gates", guards=[needs("operator", "campaigns:write")])
async def change(
    campaign_id: FromPath[str],
    data: JSONBody[CampaignGatesIn],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
) -> gates.CampaignGates:
    """Set gates otherwise for a campaign; holds from the next claim on, for what is held already as well."""
    identifier = parse_id(campaign_id, "campaign_id")
    async with runtime.db.uow(Role.ENGINE, principal.tenant_id) as uow:
        changed = await gates.set_of_campaign(
            uow, principal.actor, identifier, data.settings, gates=runtime.gates, reason=data.reason
        )
        await holds.ask_again(uow, runtime.gates, data.settings, identifier)
        return changed


ROUTES = [of_campaign, change]
