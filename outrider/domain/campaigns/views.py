"""What is shown of campaigns. Pure data, no rules."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import asyncpg
import msgspec

from outrider.data.link_dial import Dialled
from outrider.domain.campaigns.delivery import Delivery
from outrider.domain.campaigns.shown import DeliveryView


class Finding(msgspec.Struct, frozen=True):
    """Something the preflight found. One that is blocking refuses the launch.

    is_acknowledgeable: it blocks until somebody says explicitly that they mean it; is_acknowledged: somebody did.
    """

    code: str
    message: str
    is_blocking: bool
    is_acknowledgeable: bool = False
    is_acknowledged: bool = False


class CountryCost(msgspec.Struct, frozen=True):
    """Those in one country ('' none): what one part costs there, and what all of them do; null: no price is known."""

    country: str
    count: int
    per_part_micros: int | None
    total_micros: int | None


class Cost(msgspec.Struct, frozen=True):
    """What messages cost, in millionths of the currency.

    per_message_micros  on average
    parts               in how many parts a message seems to be sent; null where messages are not counted in parts
    is_estimate         parts depend on what is put in, prices on the country; what is charged may differ
    unpriced_count      people for whose country no price is known; they are not in the total
    countries           where prices differ by country
    """

    currency: str
    per_message_micros: int
    total_micros: int
    parts: int | None = None
    is_estimate: bool = False
    unpriced_count: int = 0
    countries: list[CountryCost] = []


class Exclusions(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Who gets nothing: members of lists and segments, and those who got other campaigns, may have or are about to."""

    list_ids: Annotated[list[UUID], msgspec.Meta(max_length=50)] = []
    segment_ids: Annotated[list[UUID], msgspec.Meta(max_length=50)] = []
    campaign_ids: Annotated[list[UUID], msgspec.Meta(max_length=50)] = []


class Excluded(msgspec.Struct, frozen=True):
    """How many an exclusion takes by itself; whoever several take is in each of their counts.

    kind    list, segment, or campaign for those who got it
    count   null: not counted, because it took too long
    """

    kind: Literal["list", "segment", "campaign"]
    id: UUID
    name: str
    count: int | None


class Preflight(msgspec.Struct, frozen=True):
    """Whom a campaign would reach now, and what stands in its way.

    member_count = no_address + suppressed + without_consent + will_go; excluded_count is how many the exclusions
    took from list or segment before, excluded_by each of them.

    rate_per_s     what the limits of sender, connection, tenant allow (rate_source `limit`), else what the sender's
                   last campaign of 100 messages or more reached (`measured`), or the campaign's own pace where that is
                   less (`pace`); None: nothing of this is known, and no end is estimated
    estimated_at   when it would be through if it began now, with the warm-up of its sender
    role_address_count  of those who go, addresses of offices (info@, sales@ …)
    cost           None: no price is known
    dialled_links  what became of each link, when they were tried
    """

    member_count: int
    no_address_count: int
    suppressed_count: int
    without_consent_count: int
    will_go_count: int
    rate_per_s: float | None
    estimated_s: float | None
    findings: list[Finding]
    checked_at: datetime
    excluded_count: int = 0
    rate_source: str | None = None
    estimated_at: datetime | None = None
    role_address_count: int = 0
    cost: Cost | None = None
    dialled_links: list[Dialled] = []
    excluded_by: list[Excluded] = []

    @property
    def is_blocked(self) -> bool:
        """Whether a launch would be refused."""
        return any(finding.is_blocking for finding in self.findings)


class CampaignView(msgspec.Struct, frozen=True):
    """A campaign. Without `template_version` a draft takes the latest one when it is launched.

    It goes to a list or to a segment. audience_at, audience_count: when it was found who belongs to it, and how many;
    null for a plain list, which is walked as it is. launch_at: when a scheduled one is launched by itself;
    launch_trouble: why the last scheduled launch did not happen. undo_until: until when its launch can be taken back,
    and nothing of it is queued before. acknowledged: findings of the preflight that people said yes to. retry_of: the
    campaign whose failed messages it sends again. joined_count: recipients who joined its list after the launch.
    """

    id: UUID
    name: str
    channel: str
    purpose: str
    sender_id: UUID
    content_id: UUID
    template_id: UUID | None
    template_version: int | None
    list_id: UUID | None
    segment_id: UUID | None
    exclusions: Exclusions
    audience_at: datetime | None
    audience_count: int | None
    state: str
    priority: int
    expires_at: datetime | None
    lane_id: int | None
    expanded_count: int
    expanded_at: datetime | None
    no_address_count: int
    preflight: Preflight | None
    created_by: str
    created_at: datetime
    launch_at: datetime | None
    launch_trouble: str | None
    launched_at: datetime | None
    finished_at: datetime | None
    undo_until: datetime | None
    acknowledged: list[str]
    retry_of: UUID | None
    joined_count: int
    delivery: Delivery


class Expansion(msgspec.Struct, frozen=True):
    """How far the list of a campaign is queued: which of its messages exist.

    state         `draft`, `undoable` until its launch cannot be taken back any more, `waiting` for its first page,
                  `running`, `between_waves`, `waiting_for_room` in the queue (goes on by itself),
                  `failing` (tried again every half minute), `paused`, `complete`, or `stopped` with the campaign
    rate_per_s    recipients a second since the launch; estimated_at is worked out from it
    last_page_at  when the last page was queued
    error         what keeps it from going on, since failed_at; of a failure details are in the worker's log
    """

    state: str
    queued_count: int
    no_address_count: int
    total_count: int
    rate_per_s: float
    estimated_at: datetime | None
    last_page_at: datetime | None
    error: str | None
    failed_at: datetime | None


class Progress(msgspec.Struct, frozen=True):
    """How far a campaign is: `is_finished` only when every recipient is in an end state.

    counts        messages by state; their sum is expanded_count
    total_count   recipients expected: those queued once the list is through, before that the list's members
    paused_by     scopes of the kill switch that hold it now
    rate_per_s    ended messages per second since the launch; estimated_at is worked out from it
    delivery      how it goes out and how far that is; null when it goes at once, to all, as fast as it may
    undo_left_s   how much longer its launch can be taken back; null when it cannot
    """

    id: UUID
    state: str
    is_finished: bool
    is_expanded: bool
    total_count: int
    expanded_count: int
    no_address_count: int
    ended_count: int
    counts: dict[str, int]
    paused_by: list[str]
    rate_per_s: float
    estimated_at: datetime | None
    expansion: Expansion
    launched_at: datetime | None
    finished_at: datetime | None
    undo_until: datetime | None = None
    undo_left_s: float | None = None
    delivery: DeliveryView | None = None


def campaign_view(row: asyncpg.Record) -> CampaignView:
    """A row of `campaign_get`."""
    facts: dict[str, Any] = dict(row)
    del facts["read_at"]
    told = facts.pop("preflight")
    exclusions = msgspec.json.decode(facts.pop("exclusions"), type=Exclusions)
    preflight = msgspec.json.decode(told, type=Preflight) if told else None
    acknowledged = msgspec.json.decode(facts.pop("acknowledged"), type=list[str])
    delivery = Delivery.read(facts.pop("delivery"))
    return CampaignView(
        preflight=preflight, exclusions=exclusions, acknowledged=acknowledged, delivery=delivery, **facts
    )
