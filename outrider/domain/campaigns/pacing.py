"""Paces: how fast a campaign may go at most, by a bucket of its own that every worker's claims draw from.

Owns that bucket, and what is said of the pace once a campaign is launched. The bucket holds a second's worth at most:
what was not sent during a pause is not made up for in a burst.
"""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import msgspec

from outrider.base.errors import Refused
from outrider.contracts.actor import Actor
from outrider.data.db import UnitOfWork
from outrider.domain.audit.append import append
from outrider.domain.campaigns import local_time
from outrider.domain.campaigns.delivery import Delivery, Pacing, check, rate_per_s, waits_s
from outrider.domain.campaigns.rows import DELIVERY, SQL
from outrider.domain.limits import buckets
from outrider.domain.limits.reasons import clean_reason
from outrider.domain.messages import counts
from outrider.domain.messages.states import END_STATES


class PaceChange(msgspec.Struct, forbid_unknown_fields=True):
    """Another pace for a campaign that was launched; null: as fast as sender and tenant allow."""

    pacing: Pacing | None
    reason: str = ""


async def begin(uow: UnitOfWork, campaign_id: UUID, wanted: Delivery, will_go_count: int) -> None:
    """Give a campaign that is being launched its bucket, or take one away that an earlier launch left."""
    pace = None if wanted.pacing is None else rate_per_s(wanted.pacing, will_go_count)
    await buckets.pace(uow, campaign_id, pace)


async def change(uow: UnitOfWork, actor: Actor, campaign_id: UUID, wanted: PaceChange) -> float | None:
    """Change the pace of a launched campaign; claims follow from the commit on, and later retries of it. Audited.

    Gives:   messages a second at most; None: no longer bounded. Spread over hours means: what is left, from now on.
    Raises:  Refused(not_found; not_running, 409; one_pace).
    """
    state = await SQL.lock_campaign.value(uow.raw, uow.tenant, campaign_id)
    if state is None:
        raise Refused("not_found", "no such campaign", field="/id", status=404)
    if state not in {"sending", "paused"}:
        raise Refused("not_running", f"the campaign is {state}", field="/id", status=409, state=state)
    check(Delivery(pacing=wanted.pacing))
    pace = None
    if wanted.pacing is not None:
        pace = rate_per_s(wanted.pacing, await _left(uow, campaign_id))
    await buckets.pace(uow, campaign_id, pace)
    row = await DELIVERY.delivery_get.one(uow.raw, uow.tenant, campaign_id)
    said = msgspec.structs.replace(Delivery.read(row["delivery"] if row else None), pacing=wanted.pacing)
    await DELIVERY.pace_keep.run(uow.raw, uow.tenant, campaign_id, said.stored())
    target = ("campaign", str(campaign_id))
    details = {"rate_per_s": pace}
    await append(uow, actor, action="campaign.pace", target=target, reason=clean_reason(wanted.reason), details=details)
    return pace


def narrowed(
    wanted: Delivery, will_go_count: int, rate: float | None, source: str | None
) -> tuple[float | None, str | None]:
    """What a draft's own pace leaves of the rate that is expected of it, and which of the two it is."""
    if wanted.pacing is None:
        return rate, source
    pace = rate_per_s(wanted.pacing, will_go_count)
    return (pace, "pace") if rate is None or pace < rate else (rate, source)


def estimated_s(wanted: Delivery, will_go_count: int, rate: float | None, now: datetime) -> float | None:
    """How long a draft will take if it begins now: to send, to wait between its waves, until the last zone's hour."""
    if not rate:
        return None
    found = will_go_count / rate + waits_s(wanted)
    if wanted.local_time is not None:
        last_at = wanted.local_time.at.replace(tzinfo=UTC) + local_time.LAST
        found = max(found, (last_at - now).total_seconds())
    return round(found, 1)


async def of(uow: UnitOfWork, campaign_id: UUID) -> float | None:
    """How many messages a second a launched campaign may send; None: no pace of its own."""
    found: float | None = await DELIVERY.pace_of.value(uow.raw, uow.tenant, campaign_id)
    return found


async def _left(uow: UnitOfWork, campaign_id: UUID) -> int:
    """Recipients that have no end state yet, those not yet queued included."""
    by_state = await counts.of_campaign(uow, uow.tenant, campaign_id)
    ended = sum(count for state, count in by_state.items() if state in END_STATES)
    expected: int = await DELIVERY.expected.value(uow.raw, uow.tenant, campaign_id)
    return max(1, expected - ended)
