"""The tables of campaigns.

Owns the typed models; the schema is made by the migrations. `expanded_*`, `served_at`, `no_address_count`, `trouble*`
and `finished_at` are written by the fan-out and the loops, never here.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKeyConstraint,
    Index,
    SmallInteger,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from outrider.data.orm import Base, CreatedAt, Id, TenantId
from outrider.domain.contacts import tables as _contacts  # noqa: F401 - the foreign keys below point to it
from outrider.domain.segments import tables as _segments  # noqa: F401
from outrider.domain.senders import tables as _senders  # noqa: F401
from outrider.domain.templates import tables as _templates  # noqa: F401


class Campaign(Base):
    """One content through one sender to one list or segment, less its exclusions."""

    __tablename__ = "campaigns"
    __table_args__ = (
        UniqueConstraint("tenant_id", "name"),
        ForeignKeyConstraint(["tenant_id", "sender_id"], ["senders.tenant_id", "senders.id"]),
        ForeignKeyConstraint(["tenant_id", "content_id"], ["contents.tenant_id", "contents.id"]),
        ForeignKeyConstraint(["tenant_id", "list_id"], ["lists.tenant_id", "lists.id"]),
        ForeignKeyConstraint(["tenant_id", "segment_id"], ["segments.tenant_id", "segments.id"]),
        CheckConstraint("num_nonnulls(list_id, segment_id) = 1", name="campaigns_audience_check"),
        CheckConstraint(
            "state IN ('draft', 'scheduled', 'sending', 'paused', 'finished', 'cancelled')",
            name="campaigns_state_check",
        ),
        CheckConstraint("state <> 'scheduled' OR launch_at IS NOT NULL", name="campaigns_launch_at_check"),
        Index("campaigns_created", "tenant_id", "created_at"),
        Index("campaigns_scheduled", "tenant_id", "launch_at", postgresql_where=text("state = 'scheduled'::text")),
        ForeignKeyConstraint(["tenant_id", "retry_of"], ["campaigns.tenant_id", "campaigns.id"]),
        Index("campaigns_retries", "tenant_id", "retry_of", postgresql_where=text("retry_of IS NOT NULL")),
        Index(
            "campaigns_open",
            "tenant_id",
            "state",
            postgresql_where=text("state = ANY (ARRAY['sending'::text, 'paused'::text])"),
        ),
    )

    tenant_id: Mapped[TenantId]
    id: Mapped[Id]
    name: Mapped[str]
    channel: Mapped[str]
    purpose: Mapped[str] = mapped_column(server_default="marketing")
    sender_id: Mapped[UUID]
    content_id: Mapped[UUID]
    template_id: Mapped[UUID | None]
    template_version: Mapped[int | None]
    list_id: Mapped[UUID | None]
    segment_id: Mapped[UUID | None]
    exclusions: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    audience: Mapped[dict[str, Any] | None]
    audience_at: Mapped[datetime | None]
    audience_count: Mapped[int | None] = mapped_column(BigInteger)
    state: Mapped[str] = mapped_column(server_default="draft")
    priority: Mapped[int] = mapped_column(SmallInteger, server_default=text("5"))
    expires_at: Mapped[datetime | None]
    lane_id: Mapped[int | None]
    expanded_to: Mapped[UUID | None]
    expanded_count: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    expanded_at: Mapped[datetime | None]
    served_at: Mapped[datetime | None]
    no_room_at: Mapped[datetime | None]
    no_address_count: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    trouble: Mapped[str | None]
    trouble_at: Mapped[datetime | None]
    preflight: Mapped[dict[str, Any] | None]
    created_by: Mapped[str]
    created_at: Mapped[CreatedAt]
    launch_at: Mapped[datetime | None]
    launch_trouble: Mapped[str | None]
    launched_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    undo_until: Mapped[datetime | None]
    undo_version: Mapped[int | None]
    acknowledged: Mapped[list[Any]] = mapped_column(server_default=text("'[]'"))
    retry_of: Mapped[UUID | None]
    joined_count: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    delivery: Mapped[dict[str, Any] | None]
    wave: Mapped[int | None] = mapped_column(SmallInteger)
    waits_for_look: Mapped[bool] = mapped_column(server_default=text("false"))
    late_count: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))


class CampaignAudience(Base):
    """Who belongs to a launched campaign that goes to more than a plain list; written once, read by the fan-out."""

    __tablename__ = "campaign_audience"

    tenant_id: Mapped[TenantId]
    campaign_id: Mapped[UUID] = mapped_column(primary_key=True)
    contact_id: Mapped[UUID] = mapped_column(primary_key=True)


class CampaignApproval(Base):
    """A request that a second person approves a campaign, and the answer. `digest` is of what was shown to them."""

    __tablename__ = "campaign_approvals"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "campaign_id"], ["campaigns.tenant_id", "campaigns.id"], ondelete="CASCADE"),
        CheckConstraint(
            "state IN ('waiting', 'approved', 'rejected', 'withdrawn', 'void')", name="campaign_approvals_state_check"
        ),
        Index(
            "campaign_approvals_open",
            "tenant_id",
            "campaign_id",
            unique=True,
            postgresql_where=text("state = ANY (ARRAY['waiting'::text, 'approved'::text])"),
        ),
    )

    tenant_id: Mapped[TenantId]
    id: Mapped[Id]
    campaign_id: Mapped[UUID]
    digest: Mapped[bytes]
    member_count: Mapped[int] = mapped_column(BigInteger)
    will_go_count: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[str] = mapped_column(server_default="waiting")
    requested_by: Mapped[str]
    requesters: Mapped[list[Any]]
    requested_at: Mapped[CreatedAt]
    request_reason: Mapped[str]
    expires_at: Mapped[datetime]
    decided_by: Mapped[str | None]
    decided_at: Mapped[datetime | None]
    decision_reason: Mapped[str | None]


class CampaignVariant(Base):
    """One of the contents a campaign compares; written while it is a draft."""

    __tablename__ = "campaign_variants"
    __table_args__ = (
        UniqueConstraint("tenant_id", "campaign_id", "name"),
        UniqueConstraint("tenant_id", "campaign_id", "content_id"),
        ForeignKeyConstraint(["tenant_id", "campaign_id"], ["campaigns.tenant_id", "campaigns.id"], ondelete="CASCADE"),
        ForeignKeyConstraint(["tenant_id", "content_id"], ["contents.tenant_id", "contents.id"]),
        CheckConstraint("width >= 1 AND width <= 10000"),
        Index("campaign_variants_content", "tenant_id", "content_id"),
    )

    tenant_id: Mapped[TenantId]
    campaign_id: Mapped[UUID] = mapped_column(primary_key=True)
    n: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    name: Mapped[str]
    width: Mapped[int]
    content_id: Mapped[UUID]
    template_id: Mapped[UUID]
    template_version: Mapped[int]
    subject: Mapped[str | None]


class CampaignWave(Base):
    """A part of a campaign's audience that goes before or after another; planned when the audience is found."""

    __tablename__ = "campaign_waves"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "campaign_id"], ["campaigns.tenant_id", "campaigns.id"], ondelete="CASCADE"),
        CheckConstraint("kind IN ('canary', 'test', 'rest')"),
        CheckConstraint("verdict IN ('go_on', 'stop')"),
        CheckConstraint("0 <= bucket_from AND bucket_from < bucket_to AND bucket_to <= 10000"),
    )

    tenant_id: Mapped[TenantId]
    campaign_id: Mapped[UUID] = mapped_column(primary_key=True)
    n: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    kind: Mapped[str]
    bucket_from: Mapped[int]
    bucket_to: Mapped[int]
    member_count: Mapped[int] = mapped_column(BigInteger)
    queued_count: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    expanded_to: Mapped[UUID | None]
    expanded_at: Mapped[datetime | None]
    look_at: Mapped[datetime | None]
    looked_at: Mapped[datetime | None]
    found: Mapped[dict[str, Any] | None]
    verdict: Mapped[str | None]
    why: Mapped[str | None]
    winner: Mapped[int | None] = mapped_column(SmallInteger)
    decided_by: Mapped[str | None]
    decided_at: Mapped[datetime | None]


class CampaignBrakeRow(Base):
    """A campaign was paused for what its recipients did; what came before counts no more."""

    __tablename__ = "campaign_brakes"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "campaign_id"], ["campaigns.tenant_id", "campaigns.id"], ondelete="CASCADE"),
    )

    tenant_id: Mapped[TenantId]
    campaign_id: Mapped[UUID] = mapped_column(primary_key=True)
    counted_from: Mapped[CreatedAt]
    reason: Mapped[str]
