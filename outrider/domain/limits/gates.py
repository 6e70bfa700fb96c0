"""Settings of gates that hold for one campaign.

Owns table `campaign_gates`. A tenant's settings are the tenant's (domain/tenants); what settings mean is the gates'.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec

from outrider.base.errors import Refused
from outrider.base.fields import Field, check
from outrider.contracts.actor import Actor
from outrider.contracts.gate import Gate
from outrider.data.db import UnitOfWork
from outrider.domain.audit.append import append
from outrider.domain.limits.reasons import NOT_GIVEN, clean_reason
from outrider.domain.limits.rows import SQL


class CampaignGates(msgspec.Struct, frozen=True):
    """What a campaign has set for itself (`own`), and what holds for it: its own, else its tenant's, else a preset."""

    campaign_id: UUID
    own: dict[str, Any]
    settings: dict[str, Any]


def campaign_fields(gates: Iterable[Gate]) -> tuple[Field, ...]:
    """The settings of gates that a campaign may have for itself."""
    return tuple(field for gate in gates for field in gate.fields if field.is_per_campaign)


async def of_campaign(uow: UnitOfWork, campaign_id: UUID, fields: Sequence[Field]) -> CampaignGates:
    """What holds for a campaign. Raises Refused(not_found)."""
    row = await SQL.campaign_gates_get.one(uow.raw, uow.tenant, campaign_id)
    if row is None:
        raise Refused("not_found", "no such campaign", field="/id", status=404)
    return _made(campaign_id, json.loads(row["own"]), json.loads(row["of_tenant"]), fields)


async def set_of_campaign(
    uow: UnitOfWork,
    actor: Actor,
    campaign_id: UUID,
    given: Mapping[str, Any],
    *,
    gates: Sequence[Gate],
    reason: str = NOT_GIVEN,
) -> CampaignGates:
    """Change what a campaign has for itself; holds from the next claim on. Audited.

    Takes:   given: settings that are not named stay, None follows the tenant again. Then call `holds.ask_again` of the
             messages, so that it holds for what is held already as well.
    Raises:  Refused(not_found), RefusedMany naming each setting.
    """
    fields = campaign_fields(gates)
    before = await of_campaign(uow, campaign_id, fields)
    check(fields, {name: value for name, value in given.items() if value is not None}, where="settings")
    known = {field.name for field in fields}
    for name in given:
        if name not in known:
            raise Refused("unknown_field", f"unknown setting; known: {', '.join(known)}", field=f"settings.{name[:80]}")
    own = {name: value for name, value in {**before.own, **given}.items() if value is not None}
    if own:
        await SQL.campaign_gates_set.run(uow.raw, uow.tenant, campaign_id, json.dumps(own))
    else:
        await SQL.campaign_gates_clear.run(uow.raw, uow.tenant, campaign_id)
    after = await of_campaign(uow, campaign_id, fields)
    changed = {
        name: [before.settings[name], value] for name, value in after.settings.items() if before.settings[name] != value
    }
    await append(
        uow,
        actor,
        action="campaign.gates",
        target=("campaign", str(campaign_id)),
        reason=clean_reason(reason),
        details=changed,
    )
    return after


async def copy(uow: UnitOfWork, campaign_id: UUID, to_campaign_id: UUID) -> None:
    """Let what a campaign has for itself hold for a new one as well, such as its retry; the caller audits that one."""
    await SQL.campaign_gates_copy.run(uow.raw, uow.tenant, campaign_id, to_campaign_id)


def _made(
    campaign_id: UUID, own: Mapping[str, Any], tenant: Mapping[str, Any], fields: Sequence[Field]
) -> CampaignGates:
    holds = {field.name: own.get(field.name, tenant.get(field.name, field.default)) for field in fields}
    return CampaignGates(campaign_id, dict(own), holds)
