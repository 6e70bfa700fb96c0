"""Campaigns as plain dataclasses: what is asked of them, how they go out, how far they are, how they fared."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypedDict

Raw = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exclusions:
    """Who gets nothing: members of lists and segments, and those who got other campaigns."""

    list_ids: list[str] = field(default_factory=list)
    segment_ids: list[str] = field(default_factory=list)
    campaign_ids: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCampaign:
    """A draft to be made, to a list or to a segment. What is None is left to the server."""

    name: str
    sender_id: str
    template_id: str
    list_id: str | None = None
    segment_id: str | None = None
    exclusions: Exclusions | None = None
    template_version: int | None = None
    purpose: str | None = None
    priority: int | None = None
    expires_at: datetime | None = None


class CampaignChange(TypedDict, total=False):
    """What shall be different about a draft; a list takes the place of a segment, and back."""

    name: str
    sender_id: str
    template_id: str
    list_id: str
    segment_id: str
    exclusions: Exclusions
    template_version: int | None
    purpose: str
    priority: int
    expires_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalTime:
    """Everybody gets it when their own clock shows `at`, a time without offset."""

    at: datetime
    late: Literal["send", "skip"] | None = None
    attribute: str | None = None
    fallback_zone: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pacing:
    """How evenly: spread over so many hours, or at most so many messages. One of the three."""

    spread_hours: float | None = None
    per_hour: int | None = None
    per_minute: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """A small part goes first; the rest only if it fares well, or when people say so (`by_hand`)."""

    share_percent: float | None = None
    minimum_count: int | None = None
    wait_minutes: float | None = None
    decision: Literal["automatic", "by_hand"] | None = None
    max_failed_percent: float | None = None
    max_bounced_percent: float | None = None
    max_complained_percent: float | None = None
    max_uncertain_percent: float | None = None
    max_waiting_percent: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One of the contents that are compared; the shares make 100."""

    name: str
    share_percent: float
    template_id: str | None = None
    template_version: int | None = None
    subject: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AbTest:
    """Two to five variants: some get them by lot, the rest get the one that did best."""

    variants: list[Variant]
    audience_percent: float | None = None
    wait_minutes: float | None = None
    metric: Literal["clicks", "opens"] | None = None
    minimum_count: int | None = None
    decision: Literal["automatic", "by_hand"] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """How a campaign goes out. Without anything: at once, to all, as fast as sender and tenant allow."""

    local_time: LocalTime | None = None
    pacing: Pacing | None = None
    canary: Canary | None = None
    ab_test: AbTest | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """Something the preflight found; an acknowledgeable one blocks until the launch says that it is meant."""

    code: str
    message: str
    is_blocking: bool
    is_acknowledgeable: bool
    is_acknowledged: bool


@dataclass(frozen=True, slots=True)
class Preflight:
    """Whom a campaign would reach now, and what stands in its way. Its price stands in `raw["cost"]`."""

    member_count: int
    no_address_count: int
    suppressed_count: int
    without_consent_count: int
    excluded_count: int
    will_go_count: int
    rate_per_s: float | None
    estimated_at: datetime | None
    findings: list[Finding]
    checked_at: datetime
    raw: Raw = field(repr=False, compare=False)

    @property
    def is_blocked(self) -> bool:
        """Whether a launch would be refused."""
        return any(each.is_blocking and not each.is_acknowledged for each in self.findings)


@dataclass(frozen=True, slots=True)
class Campaign:
    """A campaign as it stands: draft, scheduled, sending, paused, finished or cancelled."""

    id: str
    name: str
    channel: str
    state: str
    purpose: str
    sender_id: str
    template_id: str | None
    template_version: int | None
    list_id: str | None
    segment_id: str | None
    priority: int
    delivery: Delivery
    created_at: datetime
    expires_at: datetime | None
    launch_at: datetime | None
    launch_trouble: str | None
    launched_at: datetime | None
    undo_until: datetime | None
    finished_at: datetime | None
    retry_of: str | None
    raw: Raw = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Expansion:
    """How far its list is queued; `waiting_for_room` goes on by itself, `error` says what keeps it."""

    state: str
    queued_count: int
    no_address_count: int
    total_count: int
    error: str | None


@dataclass(frozen=True, slots=True)
class Wave:
    """A canary, a test or the rest: its state, and what was decided about it."""

    n: int
    kind: str
    state: str
    share_percent: float
    member_count: int
    queued_count: int
    look_at: datetime | None
    verdict: str | None
    why: str | None
    winner: str | None


@dataclass(frozen=True, slots=True)
class DeliveryState:
    """How a campaign goes out and how far that is; `waits_for` is `look` or `decision` when a wave waits for one."""

    campaign_id: str
    delivery: Delivery
    waves: list[Wave]
    waits_for: str | None
    pace_per_s: float | None
    late_count: int
    raw: Raw = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a campaign is; `is_finished` only when every recipient is in an end state. `counts`: by state."""

    id: str
    state: str
    is_finished: bool
    is_expanded: bool
    total_count: int
    expanded_count: int
    ended_count: int
    counts: dict[str, int]
    paused_by: list[str]
    rate_per_s: float
    estimated_at: datetime | None
    expansion: Expansion
    undo_left_s: float | None
    delivery: DeliveryState | None
    raw: Raw = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Responses:
    """Openings or clicks: `people` and `machines` are messages, each once; the hits are every time."""

    people: int
    hits: int
    machines: int
    machine_hits: int


@dataclass(frozen=True, slots=True)
class Results:
    """What became of a campaign; the rates are people of sent."""

    campaign_id: str
    sent_count: int
    counts: dict[str, int]
    opens: Responses
    clicks: Responses
    open_rate: float
    click_rate: float
    raw: Raw = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class VariantResult:
    """How a variant fared so far."""

    n: int
    name: str
    share_percent: float
    is_winner: bool
    sent_count: int
    opened_count: int
    clicked_count: int
    open_rate: float
    click_rate: float
    raw: Raw = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Approval:
    """A request for approval and its answer: waiting, approved, rejected, withdrawn, void or expired."""

    id: str
    campaign_id: str
    state: str
    member_count: int
    requested_by: str
    requested_at: datetime
    expires_at: datetime
    decided_by: str | None
    decided_at: datetime | None
    decision_reason: str | None
    raw: Raw = field(repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class RetryDue:
    """Whom a retry would be sent to now (`count`), and what failed for good."""

    campaign_id: str
    count: int
    failed: dict[str, int]
    permanent_count: int
    uncertain_count: int
    retries: list[str]
    is_under_way: bool
    raw: Raw = field(repr=False, compare=False)
