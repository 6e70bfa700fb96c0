"""Telling the feed what happens to campaigns, in the transaction in which it happens.

Owns the kinds of these events; their places in the feed are messages/feed.py's. People's changes go into the audit log
in the same step. An event says what kind of actor it was, not who: that is the audit log's.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Literal, get_args
from uuid import UUID

from outrider.contracts.actor import Actor
from outrider.data.db import UnitOfWork
from outrider.domain.audit.append import append
from outrider.domain.limits.reasons import NOT_GIVEN, clean_reason
from outrider.domain.messages import feed

Kind = Literal[
    "campaign_scheduled", "campaign_unscheduled", "campaign_launch_refused", "campaign_approval_asked",
    "campaign_approved", "campaign_rejected", "campaign_approval_withdrawn", "campaign_approval_voided",
    "campaign_launched", "campaign_launch_undone", "campaign_paused", "campaign_braked", "campaign_resumed",
    "campaign_wave_released", "campaign_wave_stopped", "campaign_winner_chosen", "campaign_cancelled",
    "campaign_finished", "campaign_retried",
]  # fmt: skip
"""What can happen to a campaign."""
KINDS: Final[tuple[str, ...]] = get_args(Kind)

_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


async def tell(
    uow: UnitOfWork,
    actor: Actor,
    campaign_id: UUID,
    kind: Kind,
    *,
    reason: str = "",
    data: Mapping[str, Any] = _NOTHING,
) -> None:
    """Add an event to the feed; it is there when the caller's transaction is committed.

    Takes:   a unit of work of either role
    """
    why = {"reason": reason} if reason and reason != NOT_GIVEN else {}
    await feed.tell_campaign(uow.raw, uow.tenant, campaign_id, kind, {"by": actor.kind, **why, **data})


async def note(
    uow: UnitOfWork,
    actor: Actor,
    campaign_id: UUID,
    action: str,
    kind: Kind,
    *,
    reason: str = NOT_GIVEN,
    details: Mapping[str, Any] = _NOTHING,
) -> None:
    """Add an event to the feed and an entry `campaign.<action>` to the audit log; call it after every other lock."""
    why = clean_reason(reason)
    await tell(uow, actor, campaign_id, kind, reason=why, data=details)
    target = ("campaign", str(campaign_id))
    await append(uow, actor, action=f"campaign.{action}", target=target, reason=why, details=details)
