"""What is shown of campaigns. Pure data, no rules."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import msgspec


class Finding(msgspec.Struct, frozen=True):
    """Something the preflight found. One that is blocking refuses the launch."""

    code: str
    message: str
    is_blocking: bool


class Preflight(msgspec.Struct, frozen=True):
    """Whom a campaign would reach now, and what stands in its way.

    member_count = no_address + suppressed + without_consent + will_go. `rate_per_s` is what the limits of sender and
    tenant allow; None: nothing but the provider limits it, and no end is estimated.
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

    @property
    def is_blocked(self) -> bool:
        """Whether a launch would be refused."""
        return any(finding.is_blocking for finding in self.findings)


class CampaignView(msgspec.Struct, frozen=True):
    """A campaign. Without `template_version` a draft takes the latest one when it is launched."""

    id: UUID
    name: str
    channel: str
    purpose: str
    sender_id: UUID
    content_id: UUID
    template_id: UUID | None
    template_version: int | None
    list_id: UUID
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
    launched_at: datetime | None
    finished_at: datetime | None


class Progress(msgspec.Struct, frozen=True):
    """How far a campaign is: `is_finished` only when every recipient is in an end state.

    counts        messages by state; their sum is expanded_count
    total_count   recipients expected: those queued once the list is through, before that the list's members
    paused_by     scopes of the kill switch that hold it now
    rate_per_s    ended messages per second since the launch; estimated_at is worked out from it
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
    launched_at: datetime | None
    finished_at: datetime | None


def campaign_view(row: asyncpg.Record) -> CampaignView:
    """A row of `campaign_get`."""
    facts: dict[str, Any] = dict(row)
    del facts["read_at"]
    told = facts.pop("preflight")
    return CampaignView(preflight=msgspec.json.decode(told, type=Preflight) if told else None, **facts)
