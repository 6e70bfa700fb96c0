"""What a warm-up of its sender means for a campaign that is to be launched: when it will be through.

Owns the finding and the estimate; plans are domain/limits/warm_ups.py's.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from outrider.base.errors import Refused
from outrider.data.db import UnitOfWork
from outrider.domain.campaigns.views import CampaignView, Finding
from outrider.domain.limits import warm_ups
from outrider.domain.limits.warm_ups import WarmUp


async def slowed(
    uow: UnitOfWork, campaign: CampaignView, will_go: int, now: datetime, estimated_s: float | None
) -> tuple[float | None, list[Finding]]:
    """How long a campaign will take with the warm-up of its sender, and what is to be said about it.

    Takes:   estimated_s: how long it takes as far as nothing but rates is concerned; None: nobody knows.
    Gives:   the longer of the two; the day's mail of others of the same sender is not foreseen.
    """
    plan = await _plan(uow, campaign.sender_id)
    through_at = None if plan is None else await warm_ups.ends_at(uow, campaign.sender_id, will_go, now)
    if plan is None or through_at is None:
        return estimated_s, []
    message = (
        f"{plan.sender} is being warmed up (day {plan.step} of {len(plan.steps)}, {plan.day_allowed} on it): "
        f"{will_go} take until {through_at:%Y-%m-%d} at least"
    )
    findings = [Finding("warm_up", message, is_blocking=False)]
    if campaign.expires_at is not None and campaign.expires_at <= through_at:
        message = f"by the warm-up of {plan.sender} the last of {will_go} may not go before expires_at"
        findings.append(Finding("too_slow", message, is_blocking=False))
    return round(max(estimated_s or 0.0, (through_at - now).total_seconds()), 1), findings


async def _plan(uow: UnitOfWork, sender_id: UUID) -> WarmUp | None:
    try:
        found = await warm_ups.get(uow, sender_id)
    except Refused:
        return None
    return None if found.state == "finished" else found
