"""Tables of tracking that people change: what is noticed at all, and which campaigns have a public web version.

Owns the typed models; the schema is made by the migrations. Hits, responses and counts are the data plane's.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, LargeBinary, text
from sqlalchemy.orm import Mapped, mapped_column

from outrider.data.orm import Base, CreatedAt, TenantId


class TrackingSwitch(Base):
    """What one scope wants noticed; without a row the presets of the columns hold."""

    __tablename__ = "tracking_switches"
    __table_args__ = (
        CheckConstraint("scope IN ('tenant', 'sender', 'campaign')", name="tracking_switches_scope_check"),
    )

    tenant_id: Mapped[TenantId]
    scope: Mapped[str] = mapped_column(primary_key=True)
    scope_id: Mapped[UUID] = mapped_column(primary_key=True)
    opens: Mapped[bool] = mapped_column(server_default=text("true"))
    clicks: Mapped[bool] = mapped_column(server_default=text("true"))
    transactional: Mapped[bool] = mapped_column(server_default=text("false"))
    changed_by: Mapped[str]
    changed_at: Mapped[CreatedAt]


class WebVersion(Base):
    """A campaign's public page. `code` makes its address unguessable and is another one each time it is published."""

    __tablename__ = "web_versions"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "campaign_id"], ["campaigns.tenant_id", "campaigns.id"], ondelete="CASCADE"),
    )

    tenant_id: Mapped[TenantId]
    campaign_id: Mapped[UUID] = mapped_column(primary_key=True)
    code: Mapped[bytes] = mapped_column(LargeBinary)
    variables: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    created_by: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
