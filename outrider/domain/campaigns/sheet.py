"""The preflight's sheet with what happened beside it: every row promised and actual, every difference explained.

Owns the arithmetic. The promise was frozen at the launch and the rest is counted from the ledger's rollups and the
fan-out's own counters, so that asking again gives the same; nothing here looks at lists as they are today.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec

from outrider.data.db import UnitOfWork
from outrider.domain.campaigns import read
from outrider.domain.campaigns.rows import SQL
from outrider.domain.campaigns.views import CampaignView, Cost, Excluded, Preflight, campaign_view
from outrider.domain.messages import counts
from outrider.domain.messages.counts import Count
from outrider.domain.messages.states import END_STATES

_WENT: Final = ("sent", "delivered", "bounced")
_GATES: Final = {"do_not_contact": "suppressed", "consent": "without_consent", "list_choice": "without_consent"}
"""Gates that the preflight asks too, and the row that counts them."""
_WORDS: Final = {
    "joined": "joined the list after the launch",
    "left": "left the audience, or were erased, before their turn",
    "not_queued": "not queued yet",
    "never_queued": "never queued: it was cancelled before",
    "no_address": "have another number of members without address than counted",
    "suppressed": "came onto or off the do-not-contact list since",
    "without_consent": "withdrew or gave consent, or turned lists off, since",
    "late": "were skipped: their local hour had passed",
    "open": "are still open",
    "uncertain": "were handed over, the answer was lost",
    "expired": "were not sent before the campaign expired",
    "cancelled": "were withdrawn before they were sent",
    "charged": "came to other parts, countries or prices than estimated",
}


class Why(msgspec.Struct, frozen=True):
    """A part of a difference; the counts of a row make its difference."""

    code: str
    count: int
    message: str


class Row(msgspec.Struct, frozen=True):
    """One number of the sheet. actual is null before the launch; explained: whether `why` makes the difference."""

    name: str
    promised: int
    actual: int | None
    difference: int | None
    why: list[Why]
    is_explained: bool


class Sheet(msgspec.Struct, frozen=True):
    """What was promised and what happened.

    is_final        nothing changes any more: it is finished or cancelled and nothing of it is open
    rows            members, no_address, suppressed, without_consent, will_go, cost_micros
    excluded_count  how many the exclusions took before, and excluded_by each of them, as promised; null: not checked
    states          messages by state; with `no_address` they make `members`
    retried_count   sent by its retries, beside `will_go`
    """

    campaign_id: UUID
    state: str
    is_final: bool
    checked_at: datetime | None
    launched_at: datetime | None
    estimated_at: datetime | None
    finished_at: datetime | None
    late_s: float | None
    currency: str | None
    rows: list[Row]
    excluded_count: int | None
    excluded_by: list[Excluded]
    states: dict[str, int]
    retried_count: int


async def of_campaign(uow: UnitOfWork, campaign_id: UUID) -> Sheet:
    """The sheet of a campaign as it is now; without a preflight it has no rows.

    Raises:  Refused(not_found).
    """
    row = await read.row_of(uow, campaign_id)
    campaign = campaign_view(row)
    found = await counts.details(uow.raw, uow.tenant, campaign_id)
    retried = 0
    for member in await SQL.family_of.many(uow.raw, uow.tenant, campaign_id):
        if member["id"] != campaign_id:
            states = await counts.of_campaign(uow, uow.tenant, member["id"])
            retried += sum(states.get(state, 0) for state in _WENT)
    skipped = await SQL.late_count.value(uow.raw, uow.tenant, campaign_id)
    charged = 0
    if campaign.preflight is not None and campaign.preflight.cost is not None and campaign.preflight.cost.is_estimate:
        charged = await SQL.charged_micros.value(uow.raw, uow.tenant, campaign_id)  # reads every message of it
    return filled(campaign, found, late_count=skipped, retried_count=retried, charged_micros=charged)


def filled(
    campaign: CampaignView,
    found: Sequence[Count],
    *,
    late_count: int = 0,
    retried_count: int = 0,
    charged_micros: int = 0,
) -> Sheet:
    """Promise and outcome side by side; pure.

    Takes:   found           messages of the campaign by state and code
             late_count      members skipped because their local hour had passed
             charged_micros  what its messages were charged; only looked at where the price was an estimate
    """
    promise = campaign.preflight
    is_launched = campaign.launched_at is not None
    states = counts.by_state(list(found))
    estimated_at = _estimated(campaign, promise)
    is_open = any(state not in END_STATES for state in states)
    late_s = None
    if estimated_at is not None and campaign.finished_at is not None:
        late_s = round((campaign.finished_at - estimated_at).total_seconds(), 1)
    rows: list[Row] = []
    if promise is not None and not is_launched:
        rows = [_row(name, count, None, []) for name, count in _promised(promise)]
    elif promise is not None:
        rows = _rows(campaign, promise, found, late_count)
        if promise.cost is not None:
            rows.append(_cost(promise.cost, rows[-1], charged_micros))
    return Sheet(
        campaign_id=campaign.id,
        state=campaign.state,
        is_final=campaign.state in {"finished", "cancelled"} and not is_open,
        checked_at=promise.checked_at if promise is not None else None,
        launched_at=campaign.launched_at,
        estimated_at=estimated_at,
        finished_at=campaign.finished_at,
        late_s=late_s,
        currency=promise.cost.currency if promise is not None and promise.cost is not None else None,
        rows=rows,
        excluded_count=promise.excluded_count if promise is not None else None,
        excluded_by=promise.excluded_by if promise is not None else [],
        states=dict(sorted(states.items())),
        retried_count=retried_count,
    )


def _estimated(campaign: CampaignView, promise: Preflight | None) -> datetime | None:
    """When it would be through: as long after it could begin as the preflight thought it takes."""
    if promise is None or promise.estimated_at is None:
        return None
    begun_at = read.begun(campaign) or promise.checked_at
    return begun_at + (promise.estimated_at - promise.checked_at)


def _promised(promise: Preflight) -> list[tuple[str, int]]:
    rows = [
        ("members", promise.member_count),
        ("no_address", promise.no_address_count),
        ("suppressed", promise.suppressed_count),
        ("without_consent", promise.without_consent_count),
        ("will_go", promise.will_go_count),
    ]
    return rows + ([("cost_micros", promise.cost.total_micros)] if promise.cost is not None else [])


def _rows(campaign: CampaignView, promise: Preflight, found: Sequence[Count], late_count: int) -> list[Row]:
    """What became of each promise. Members are those who were looked at: queued, without address or too late."""
    blocked: Counter[str] = Counter()
    for one in found:
        if one.state == "blocked" and one.code in _GATES:
            blocked[_GATES[one.code]] += one.count
    looked_at = campaign.expanded_count + campaign.no_address_count + late_count
    missing = promise.member_count + campaign.joined_count - looked_at
    gone = "left" if campaign.expanded_at is not None else "not_queued"
    if campaign.expanded_at is None and campaign.state == "cancelled":
        gone = "never_queued"
    members = _whys({"joined": campaign.joined_count, gone: -missing})
    more = {
        "no_address": campaign.no_address_count - promise.no_address_count,
        "suppressed": blocked["suppressed"] - promise.suppressed_count,
        "without_consent": blocked["without_consent"] - promise.without_consent_count,
    }
    went = sum(one.count for one in found if one.state in _WENT)
    whys = [*members, *_whys({name: -count for name, count in more.items()} | {"late": -late_count}), *_lost(found)]
    whys = [each for each in whys if each.count]
    rows = [_row("members", promise.member_count, looked_at, members)]
    for name, count in more.items():
        promised = getattr(promise, f"{name}_count")
        part = _whys({name: count} if campaign.expanded_at else {gone: count})
        rows.append(_row(name, promised, promised + count, part))
    rows.append(_row("will_go", promise.will_go_count, went, whys))
    return rows


def _cost(cost: Cost, went: Row, charged_micros: int) -> Row:
    """What it cost: where parts and countries decide, what was charged; else what went at its price."""
    each = cost.per_message_micros
    whys = [Why(why.code, why.count * each, why.message) for why in went.why if each]
    if not cost.is_estimate:
        return _row("cost_micros", cost.total_micros, (went.actual or 0) * each, whys)
    rest = charged_micros - cost.total_micros - sum(why.count for why in whys)
    return _row("cost_micros", cost.total_micros, charged_micros, [*whys, *_whys({"charged": rest})])


def _lost(found: Sequence[Count]) -> list[Why]:
    """What was queued and did not go, but for the gates that have a row of their own."""
    lost = []
    for one in found:
        if one.state in _WENT or (one.state == "blocked" and one.code in _GATES):
            continue
        if one.state == "failed":
            lost.append(Why(f"failed:{one.code}", -one.count, f"failed: {one.code}"))
        elif one.state == "blocked":
            lost.append(Why(f"blocked:{one.code}", -one.count, f"stopped by the gate {one.code}"))
        else:
            code = one.state if one.state in _WORDS else "open"
            lost.append(Why(code, -one.count, _WORDS[code]))
    merged: dict[str, Why] = {}
    for why in lost:
        before = merged.get(why.code)
        merged[why.code] = Why(why.code, why.count + (before.count if before else 0), why.message)
    return [merged[code] for code in sorted(merged)]


def _whys(differences: dict[str, int]) -> list[Why]:
    return [Why(code, count, _WORDS[code]) for code, count in differences.items() if count]


def _row(name: str, promised: int, actual: int | None, why: list[Why]) -> Row:
    difference = None if actual is None else actual - promised
    return Row(name, promised, actual, difference, why, (difference or 0) == sum(each.count for each in why))
