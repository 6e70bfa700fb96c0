"""The tables of campaigns.

Owns the typed models; the schema is made by the migrations. `expanded_*`, `served_at`, `no_address_count`, `trouble*`
and `finished_at` are written by the fan-out and the loops, never here.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKeyConstraint, Index, SmallInteger, UniqueConstraint, text
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


class CampaignAudience(Base):
    """Who belongs to a launched campaign that goes to more than a plain list; written once, read by the fan-out."""

    __tablename__ = "campaign_audience"

    tenant_id: Mapped[TenantId]
    campaign_id: Mapped[UUID] = mapped_column(primary_key=True)
    contact_id: Mapped[UUID] = mapped_column(primary_key=True)
