"""Approval of campaigns by a second person: asked for, given, refused, taken back, and what waits for an answer."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import msgspec
from litestar import get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from outrider.base.ids import parse_id
from outrider.data.db import Role
from outrider.data.runtime import Runtime
from outrider.domain.campaigns import approvals, launch
from outrider.domain.campaigns.approvals import ApprovalView
from outrider.domain.limits.reasons import NOT_GIVEN
from outrider.interfaces.api.paging import Cursor, Limit, Page, cursor_of, page, read_cursor
from outrider.interfaces.api.v1.connections import vault_of
from outrider.interfaces.auth import Principal, needs

_WRITE = needs("operator", "campaigns:write")
_APPROVE = needs("admin", "campaigns:write", people_only=True)
StateFilter = Annotated[approvals.State | None, QueryParameter(name="state", description="Only those in this state.")]
OfCampaign = Annotated[UUID | None, QueryParameter(description="Only those of this campaign.")]


class AskIn(msgspec.Struct, forbid_unknown_fields=True):
    """Why, and which findings of the preflight are meant."""

    reason: Annotated[str, msgspec.Meta(max_length=500)] = NOT_GIVEN
    acknowledge: Annotated[list[str], msgspec.Meta(max_length=10)] = []


class AnswerIn(msgspec.Struct, forbid_unknown_fields=True):
    """Why; kept with the answer and in the audit log."""

    reason: Annotated[str, msgspec.Meta(max_length=500)] = NOT_GIVEN


@get("/approvals", guards=[needs("viewer", "campaigns:read")])
async def listed(
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
    in_state: FromQuery[StateFilter] = None,
    campaign_id: FromQuery[OfCampaign] = None,
    limit: FromQuery[Limit] = 50,
    cursor: FromQuery[Cursor] = "",
) -> Page[ApprovalView]:
    """List requests for approval and their answers, newest first; `state=waiting` is what waits for one."""
    before = read_cursor(cursor, tuple[UUID])
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        items = await approvals.listed(
            uow, limit=limit, before=before[0] if before else None, campaign_id=campaign_id, state=in_state
        )
    return page(items, limit, cursor_of(items[-1].id) if items else "")


@post("/campaigns/{campaign_id:str}/approval/request", status_code=201, guards=[_WRITE])
async def requested(
    campaign_id: FromPath[str],
    data: JSONBody[AskIn],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
) -> ApprovalView:
    """Ask a second person to approve a draft as it is now; refused with everything else that blocks it."""
    identifier = parse_id(campaign_id, "campaign_id")
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await launch.ask_approval(
            uow,
            runtime.settings,
            vault_of(runtime),
            _who(principal),
            identifier,
            channels=runtime.channels,
            acknowledged=data.acknowledge,
            reason=data.reason,
        )


@post("/campaigns/{campaign_id:str}/approval/withdraw", status_code=200, guards=[_WRITE])
async def withdrawn(
    campaign_id: FromPath[str],
    data: JSONBody[AnswerIn],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
) -> ApprovalView:
    """Take a request back, or an approval that is not wanted any more."""
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        identifier = parse_id(campaign_id, "campaign_id")
        return await approvals.withdraw(uow, _who(principal), identifier, reason=data.reason)


@post("/campaigns/{campaign_id:str}/approval/approve", status_code=200, guards=[_APPROVE])
async def approved(
    campaign_id: FromPath[str],
    data: JSONBody[AnswerIn],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
) -> ApprovalView:
    """Approve what somebody else asked for, exactly as they asked for it. People only."""
    return await _decided(campaign_id, data, principal, runtime, yes=True)


@post("/campaigns/{campaign_id:str}/approval/reject", status_code=200, guards=[_APPROVE])
async def rejected(
    campaign_id: FromPath[str],
    data: JSONBody[AnswerIn],
    principal: NamedDependency[Principal],
    runtime: NamedDependency[Runtime],
) -> ApprovalView:
    """Refuse to approve, with the reason. People only."""
    return await _decided(campaign_id, data, principal, runtime, yes=False)


async def _decided(
    campaign_id: str, data: AnswerIn, principal: Principal, runtime: Runtime, *, yes: bool
) -> ApprovalView:
    identifier = parse_id(campaign_id, "campaign_id")
    async with runtime.db.uow(Role.APP, principal.tenant_id) as uow:
        return await approvals.decide(uow, _who(principal), identifier, yes=yes, reason=data.reason)


def _who(principal: Principal) -> approvals.Who:
    may_approve = principal.via != "key" and principal.may("admin")
    return approvals.Who(principal.actor, principal.user_id, principal.key_id, may_approve=may_approve)


ROUTES = [listed, requested, withdrawn, approved, rejected]
