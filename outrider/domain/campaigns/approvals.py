"""Approval by a second person: a campaign to many needs somebody else's yes to exactly what would be sent.

Owns requests, answers and what they hold for: a digest of content, sender, audience and terms. Whatever changes one of
them leaves the approval behind. Only people approve, never keys, and nobody what they, or a key of theirs, asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

import asyncpg
import msgspec

from outrider.base.errors import Refused
from outrider.contracts.actor import Actor
from outrider.data.db import UnitOfWork
from outrider.domain.audit.append import append
from outrider.domain.campaigns import audience, content, read
from outrider.domain.campaigns.held import held_draft
from outrider.domain.campaigns.rows import DELIVERY, SQL
from outrider.domain.campaigns.told import Kind, tell
from outrider.domain.campaigns.views import CampaignView, Finding, Preflight
from outrider.domain.limits.reasons import clean_reason
from outrider.domain.tenants import tenants

State = Literal["waiting", "approved", "rejected", "withdrawn", "void", "expired"]
NEEDED: Final = frozenset(
    {
        "approval_needed",
        "approval_waiting",
        "approval_rejected",
        "approval_outdated",
        "approval_expired",
        "approval_outgrown",
    }
)
"""Codes of findings that a request for approval is there to settle."""
_NEWEST: Final = UUID(int=2**128 - 1)


@dataclass(frozen=True, slots=True)
class Who:
    """A person or key that asks or answers. The command line has neither id: the login's name stands for it.

    may_approve: a person with the role admin or above.
    """

    actor: Actor
    user_id: UUID | None = None
    key_id: UUID | None = None
    may_approve: bool = False


class ApprovalView(msgspec.Struct, frozen=True):
    """A request and its answer. It holds for member_count members and a tenth more, until expires_at.

    state  `waiting`, `approved`, `rejected`, `withdrawn` by who asked, `void` because the draft was changed since, or
           `expired`
    """

    id: UUID
    campaign_id: UUID
    campaign_name: str
    state: State
    member_count: int
    will_go_count: int
    requested_by: str
    requested_at: datetime
    request_reason: str
    expires_at: datetime
    decided_by: str | None
    decided_at: datetime | None
    decision_reason: str | None


async def ask(uow: UnitOfWork, who: Who, campaign_id: UUID, found: Preflight, *, reason: str) -> ApprovalView:
    """Ask for the approval of a draft as it is now.

    Takes:   found: its preflight, made in this unit of work, in which nothing else stands in its way.
    Raises:  Refused(not_found; not_draft, not_needed, approval_asked, 409).
    """
    await held_draft(uow, campaign_id)
    campaign = await read.get(uow, campaign_id)
    settings = (await tenants.get(uow, uow.tenant)).settings
    if not _is_needed(settings, found.member_count):
        raise Refused("not_needed", "a campaign of this size needs no approval", field="/id", status=409)
    now = await digest(uow, campaign)
    await SQL.approval_lapse.run(uow.raw, uow.tenant, campaign_id, now)
    made = await SQL.approval_ask.value(
        uow.raw, uow.tenant, campaign_id, now, found.member_count, found.will_go_count, who.actor.name,
        msgspec.json.encode(await _names(uow, who)).decode(), clean_reason(reason), settings["approval_valid_h"],
    )  # fmt: skip
    if made is None:
        raise Refused("approval_asked", "approval was asked for, or given, already", field="/id", status=409)
    await _audit(uow, who, "campaign_approval_asked", campaign_id, reason, {"members": found.member_count})
    return await _get(uow, made)


async def decide(uow: UnitOfWork, who: Who, campaign_id: UUID, *, yes: bool, reason: str) -> ApprovalView:
    """Approve or reject what waits, as a second person.

    Raises:  Refused(not_found; forbidden, own_request, 403; not_waiting, approval_expired, approval_outdated, 409).
    """
    await held_draft(uow, campaign_id)
    row = await SQL.approval_waiting.one(uow.raw, uow.tenant, campaign_id)
    if row is None:
        raise Refused("not_waiting", "no approval of this campaign is asked for", field="/id", status=409)
    if who.key_id is not None or not who.may_approve:
        raise Refused("forbidden", "only people with the role admin or above approve", status=403)
    if yes and set(msgspec.json.decode(row["requesters"], type=list[str])) & set(await _names(uow, who)):
        raise Refused("own_request", "a second person has to approve what you, or a key of yours, asked", status=403)
    if row["is_expired"]:
        raise Refused("approval_expired", "the request has expired: ask again", field="/id", status=409)
    if yes and bytes(row["digest"]) != await digest(uow, await read.get(uow, campaign_id)):
        raise Refused("approval_outdated", "what would be sent was changed since: ask again", field="/id", status=409)
    state = "approved" if yes else "rejected"
    await SQL.approval_decide.run(uow.raw, uow.tenant, row["id"], state, who.actor.name, clean_reason(reason))
    details = {"members": row["member_count"], "requested_by": row["requested_by"]}
    kind: Kind = "campaign_approved" if yes else "campaign_rejected"
    await _audit(uow, who, kind, campaign_id, reason, details)
    return await _get(uow, row["id"])


async def withdraw(uow: UnitOfWork, who: Who, campaign_id: UUID, *, reason: str) -> ApprovalView:
    """Take a request back, or an approval that is not wanted any more.

    Raises:  Refused(not_found; not_draft, not_waiting, 409).
    """
    await held_draft(uow, campaign_id)
    found = await SQL.approval_close.value(uow.raw, uow.tenant, campaign_id, "withdrawn")
    if found is None:
        raise Refused("not_waiting", "no approval of this campaign is asked for", field="/id", status=409)
    await _audit(uow, who, "campaign_approval_withdrawn", campaign_id, reason, {})
    return await _get(uow, found)


async def void(uow: UnitOfWork, actor: Actor, campaign_id: UUID) -> None:
    """A draft was changed: what was approved of it, or asked, does not hold any more."""
    if await SQL.approval_close.value(uow.raw, uow.tenant, campaign_id, "void") is not None:
        await _audit(uow, Who(actor), "campaign_approval_voided", campaign_id, "the draft was changed", {})


async def listed(
    uow: UnitOfWork,
    *,
    limit: int,
    before: UUID | None = None,
    campaign_id: UUID | None = None,
    state: str | None = None,
) -> list[ApprovalView]:
    """Requests, newest first: of a campaign, in a state (waiting: those that can still be answered).

    Raises:  Refused(unknown_state).
    """
    known = State.__args__  # type: ignore[attr-defined] # typing knows no public way to a Literal's words
    if state is not None and state not in known:
        raise Refused("unknown_state", f"must be one of {', '.join(known)}", field="?state")
    rows = await SQL.approvals_page.many(uow.raw, uow.tenant, before or _NEWEST, limit, campaign_id, state)
    return [ApprovalView(**dict(row)) for row in rows]


async def findings(
    uow: UnitOfWork, settings: Mapping[str, Any], campaign: CampaignView, now: datetime, member_count: int
) -> list[Finding]:
    """What is missing of an approval, if one is needed. One that was in time when it was scheduled stays so."""
    if campaign.state not in {"draft", "scheduled"} or not _is_needed(settings, member_count):
        return []
    row = await SQL.approval_latest.one(uow.raw, uow.tenant, campaign.id)
    missing = await _missing(uow, campaign, row, now, member_count)
    if missing is None:
        return []
    code, message = missing
    return [Finding(code, message, is_blocking=True)]


async def _missing(
    uow: UnitOfWork, campaign: CampaignView, row: asyncpg.Record | None, now: datetime, member_count: int
) -> tuple[str, str] | None:
    """Code and message of what is missing, None when the approval holds."""
    if row is None or row["state"] == "withdrawn":
        return "approval_needed", f"{member_count} members: a second person has to approve it"
    if row["state"] == "rejected":
        return "approval_rejected", f"{row['decided_by']} rejected it: {row['decision_reason']}"
    if row["state"] == "void" or bytes(row["digest"]) != await digest(uow, campaign):
        return "approval_outdated", "what would be sent was changed since approval was asked for: ask again"
    if campaign.state == "draft" and row["expires_at"] <= now:
        return "approval_expired", "the approval was not given or not used in time: ask again"
    if row["state"] == "waiting":
        return "approval_waiting", f"{row['requested_by']} asked for approval; nobody has answered"
    if member_count > row["member_count"] * audience.GROWTH:
        return "approval_outgrown", f"{row['member_count']} members were approved, {member_count} it would be now"
    return None


async def digest(uow: UnitOfWork, campaign: CampaignView) -> bytes:
    """What an approval holds for: content, sender, audience, gates and terms, each as it would go out now."""
    terms = msgspec.to_builtins(campaign)
    for name in _NOT_TERMS:
        terms.pop(name, None)
    terms["content_id"] = str((await content.own(uow, campaign)).content_id)
    terms["audience"] = await audience.frozen(uow, campaign)
    variants = await DELIVERY.variants_of.many(uow.raw, uow.tenant, campaign.id)
    terms["variants"] = [str(row["content_id"]) for row in variants]
    terms["gates"] = await SQL.own_gates.value(uow.raw, uow.tenant, campaign.id)
    terms["sender_version"] = await SQL.sender_version.value(uow.raw, uow.tenant, campaign.sender_id)
    return hashlib.sha256(msgspec.json.encode(terms, order="deterministic")).digest()


_NOT_TERMS: Final = (
    "name", "template_version", "state", "audience_at", "audience_count", "lane_id", "expanded_count", "expanded_at",
    "no_address_count", "joined_count", "preflight", "created_by", "created_at", "launch_at", "launch_trouble",
    "launched_at", "finished_at", "undo_until", "acknowledged", "retry_of",
)  # fmt: skip
"""What a campaign's view says beside what it sends, to whom and how: where it is on its way. All else is approved."""


def _is_needed(settings: Mapping[str, Any], member_count: int) -> bool:
    most = settings["approval_above_count"]
    return most is not None and member_count > most


async def _names(uow: UnitOfWork, who: Who) -> list[str]:
    """By what a person is known again: their id and name, and behind a key whoever made it, and who made that one."""
    if who.key_id is None:
        return [f"name:{who.actor.name}", *([f"user:{who.user_id}"] if who.user_id else [])]
    makers = await SQL.makers_of_key.many(uow.raw, uow.tenant, who.key_id)
    return [f"key:{who.key_id}", *(f"name:{row['created_by']}" for row in makers)]


async def _get(uow: UnitOfWork, approval_id: UUID) -> ApprovalView:
    row = await SQL.approval_get.one(uow.raw, uow.tenant, approval_id)
    assert row is not None  # noqa: S101 - written in this transaction
    return ApprovalView(**dict(row))


_ACTIONS: Final[Mapping[Kind, str]] = {
    "campaign_approval_asked": "approval_request",
    "campaign_approved": "approve",
    "campaign_rejected": "reject",
    "campaign_approval_withdrawn": "approval_withdraw",
    "campaign_approval_voided": "approval_void",
}


async def _audit(
    uow: UnitOfWork, who: Who, kind: Kind, campaign_id: UUID, reason: str, details: Mapping[str, Any]
) -> None:
    """Into the feed, without anybody's name, and into the audit log."""
    why, target = clean_reason(reason), ("campaign", str(campaign_id))
    data = {name: value for name, value in details.items() if name != "requested_by"}
    await tell(uow, who.actor, campaign_id, kind, reason=why, data=data)
    await append(uow, who.actor, action=f"campaign.{_ACTIONS[kind]}", target=target, reason=why, details=details)
