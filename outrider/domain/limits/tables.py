"""The installation's row, switches and buckets."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Double, ForeignKeyConstraint, SmallInteger, text
from sqlalchemy.orm import Mapped, mapped_column

from outrider.data.orm import Base, CreatedAt, TenantId


class Installation(Base):
    """The one row of what concerns every tenant at once. `switch_epoch` grows with every pause and resume."""

    __tablename__ = "installation"
    __table_args__ = (CheckConstraint("id = 1"),)

    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False, server_default=text("1"))
    installation_id: Mapped[UUID] = mapped_column(server_default=text("gen_random_uuid()"))
    switch_epoch: Mapped[int] = mapped_column(BigInteger, server_default=text("1"))
    maintenance_since: Mapped[datetime | None]
    maintenance_reason: Mapped[str | None]
    maintenance_by: Mapped[str | None]
    key_id: Mapped[str | None]
    key_check: Mapped[str | None]
    created_at: Mapped[CreatedAt]


class SwitchRow(Base):
    """A row means: paused."""

    __tablename__ = "switches"
    __table_args__ = (CheckConstraint("scope IN ('installation', 'tenant', 'channel', 'sender', 'campaign')"),)

    tenant_id: Mapped[TenantId]
    scope: Mapped[str] = mapped_column(primary_key=True)
    scope_id: Mapped[str] = mapped_column(primary_key=True)
    reason: Mapped[str] = mapped_column(server_default=text("'not given'"))
    actor: Mapped[str]
    at: Mapped[CreatedAt]


class BucketRow(Base):
    """A shared token bucket: at most `cap` at once and `rate` per second, refilled by the database's clock."""

    __tablename__ = "buckets"
    __table_args__ = (
        CheckConstraint("scope IN ('tenant', 'sender', 'campaign')"),
        CheckConstraint("rate > 0"),
        CheckConstraint("cap >= 1"),
        {"postgresql_with": {"fillfactor": 10}},
    )

    tenant_id: Mapped[TenantId]
    scope: Mapped[str] = mapped_column(primary_key=True)
    scope_id: Mapped[UUID] = mapped_column(primary_key=True)
    rate: Mapped[float] = mapped_column(Double)
    cap: Mapped[float] = mapped_column(Double)
    tokens: Mapped[float] = mapped_column(Double)
    at_s: Mapped[float] = mapped_column(Double, server_default=text("extract(epoch FROM clock_timestamp())"))
    granted: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))


class CampaignGatesRow(Base):
    """Settings of gates that hold for one campaign instead of its tenant's."""

    __tablename__ = "campaign_gates"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "campaign_id"], ["campaigns.tenant_id", "campaigns.id"], ondelete="CASCADE"),
    )

    tenant_id: Mapped[TenantId]
    campaign_id: Mapped[UUID] = mapped_column(primary_key=True)
    settings: Mapped[dict[str, Any]]
    updated_at: Mapped[CreatedAt]
