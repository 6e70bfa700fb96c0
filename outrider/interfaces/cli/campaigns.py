"""What campaign commands share: finding things by name, and telling how far a campaign is.

Owns wording only; the verbs are the domain's.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
from cyclopts import Parameter

from outrider.base import moments
from outrider.base.errors import Refused
from outrider.data.db import UnitOfWork
from outrider.domain.campaigns import read
from outrider.domain.campaigns.views import CampaignView, Cost, Excluded, Exclusions, Finding, Preflight, Progress
from outrider.domain.contacts import lists
from outrider.domain.segments import segments
from outrider.domain.senders import senders
from outrider.domain.templates import templates
from outrider.interfaces.cli import deliveries, named
from outrider.interfaces.cli.dialling import told_dialled
from outrider.interfaces.cli.options import between, whole_number
from outrider.interfaces.cli.output import facts, table

_MOST_COUNTRIES = 5
Which = Annotated[str, Parameter(help="The campaign's name or id.")]
ListName = Annotated[str | None, Parameter(name="--list")]
Names = Annotated[list[str] | None, Parameter(negative="")]
PRIORITY: Final = Parameter(converter=whole_number, validator=between(0, 9), n_tokens=1)
Acknowledge = Annotated[
    list[str] | None, Parameter(negative="", help="A finding of the preflight that you mean: empty_suppressions.")
]


def moment(text: str, *, field: str = "--expires") -> datetime:
    """A moment as people type it.

    Raises:  Refused(invalid_moment, out_of_range).
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise Refused("invalid_moment", "must be a moment such as 2027-01-31T00:00:00Z", field=field)
    moments.moment(found, field)
    return found


async def find(uow: UnitOfWork, which: str) -> CampaignView:
    """A campaign by name or id.

    Raises:  Refused(not_found).
    """

    async def page(before: UUID | None, limit: int) -> list[CampaignView]:
        return await read.listed(uow, limit=limit, before=before)

    return await named.find(which, "campaign", page, field="campaign")


async def sender_id(uow: UnitOfWork, which: str, *, field: str = "--sender") -> UUID:
    """A sender by name or id."""

    async def page(after: UUID | None, limit: int) -> list[senders.SenderView]:
        return await senders.listed(uow, limit=limit, after=after)

    return (await named.find(which, "sender", page, field=field)).id


async def list_id(uow: UnitOfWork, which: str, *, field: str = "--list") -> UUID:
    """A list by name or id."""

    async def page(after: UUID | None, limit: int) -> list[Any]:
        return list(await lists.listed(uow, limit=limit, after=after))

    found: UUID = (await named.find(which, "list", page, field=field)).id
    return found


async def template_id(uow: UnitOfWork, which: str, *, field: str = "--template") -> UUID:
    """A template by name or id."""

    async def page(after: UUID | None, limit: int) -> list[templates.TemplateView]:
        return await templates.listed(uow, limit=limit, after=after)

    return (await named.find(which, "template", page, field=field)).id


async def segment_id(uow: UnitOfWork, which: str, *, field: str = "--segment") -> UUID:
    """A segment by name or id."""

    async def page(after: UUID | None, limit: int) -> list[segments.SegmentView]:
        return await segments.listed(uow, limit=limit, after=after)

    return (await named.find(which, "segment", page, field=field)).id


async def named_ids(
    uow: UnitOfWork, *, sender: str | None, template: str | None, list_: str | None, segment: str | None
) -> dict[str, UUID]:
    """The ids of what was named, by the fields of a campaign.

    Raises:  Refused(not_found) naming the option.
    """
    found = {
        "sender_id": await sender_id(uow, sender) if sender is not None else None,
        "template_id": await template_id(uow, template) if template is not None else None,
        "list_id": await list_id(uow, list_) if list_ is not None else None,
        "segment_id": await segment_id(uow, segment) if segment is not None else None,
    }
    return {field: value for field, value in found.items() if value is not None}


async def exclusions(
    uow: UnitOfWork, in_lists: Sequence[str], in_segments: Sequence[str], got: Sequence[str]
) -> Exclusions:
    """Who gets nothing, by names or ids."""
    return Exclusions(
        list_ids=[await list_id(uow, each, field="--without-list") for each in in_lists],
        segment_ids=[await segment_id(uow, each, field="--without-segment") for each in in_segments],
        campaign_ids=[(await find(uow, each)).id for each in got],
    )


def told_preflight(found: Preflight) -> str:
    """Whom it would reach, and what stands in its way."""
    is_unlimited = found.rate_per_s is None
    head = {
        "members": found.member_count,
        "excluded": told_excluded(found.excluded_count, found.excluded_by),
        "without address": found.no_address_count,
        "do not contact": found.suppressed_count,
        "without consent": found.without_consent_count,
        "will go": found.will_go_count,
        "cost": told_cost(found.cost),
        "messages per second": "as fast as the provider takes them" if is_unlimited else found.rate_per_s,
        "estimated seconds": found.estimated_s,
        "estimated end": found.estimated_at,
    }
    rows = [{"weight": _weight(each), "code": each.code, "message": each.message} for each in found.findings]
    shown = facts(head) + "\n" + table(rows, ("weight", "code", "message"), empty="nothing stands in its way")
    return f"{shown}\n{told_dialled(found.dialled_links)}" if found.dialled_links else shown


def told_excluded(count: int, by: Sequence[Excluded]) -> str:
    """How many the exclusions take, and each of them."""
    each = [f"{one.kind} {one.name} {'not counted' if one.count is None else one.count}" for one in by]
    return f"{count} ({', '.join(each)})" if each else str(count)


def told_cost(cost: Cost | None) -> str:
    """An amount with its currency, and what it rests on where it is an estimate."""
    if cost is None:
        return "unknown"
    amount = f"{Decimal(cost.total_micros) / 1_000_000:,.2f} {cost.currency}"
    if not cost.is_estimate:
        return amount
    rests_on = [] if cost.parts is None else [f"{cost.parts} part{'s' * (cost.parts > 1)} each"]
    rests_on += [
        f"{each.count} in {each.country or 'no country'} at {Decimal(each.per_part_micros) / 1_000_000:f}"
        for each in sorted(cost.countries, key=lambda one: -one.count)[:_MOST_COUNTRIES]
        if each.per_part_micros is not None
    ]
    return f"about {amount} ({'; '.join(rests_on)})"


def _weight(finding: Finding) -> str:
    if finding.is_acknowledged:
        return "acknowledged"
    if finding.is_acknowledgeable:
        return "ASKS"
    return "BLOCKS" if finding.is_blocking else "note"


def told_progress(found: Progress) -> str:
    """How far it is, state by state."""
    held = f" (held by {', '.join(found.paused_by)})" if found.paused_by else ""
    queueing = "" if found.is_expanded else f" (queueing: {found.expansion.state})"
    head = {
        "state": found.state + held,
        "recipients": f"{found.ended_count} of {found.total_count}{queueing}",
        "without address": found.no_address_count,
        "messages per second": found.rate_per_s,
        "estimated end": found.estimated_at,
        "launched at": found.launched_at,
        "finished at": found.finished_at,
    }
    if found.undo_left_s is not None:
        head["can be undone for"] = f"{found.undo_left_s:.0f} s"
    if found.expansion.error is not None:
        word = "queueing waits" if found.expansion.state == "waiting_for_room" else "queueing fails"
        head[word] = f"{found.expansion.error} (since {found.expansion.failed_at})"
    rows = [{"state": state, "messages": count} for state, count in sorted(found.counts.items())]
    goes_out = "" if found.delivery is None else "\n" + deliveries.told(found.delivery)
    return facts(head) + "\n" + table(rows, ("state", "messages"), empty="no messages yet") + goes_out


def told(view: CampaignView) -> dict[str, Any]:
    """A campaign as JSON-able data."""
    data: dict[str, Any] = msgspec.to_builtins(view)
    return data
