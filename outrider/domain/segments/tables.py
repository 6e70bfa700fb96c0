"""The table of segments.

Owns the typed model; the schema is made by the migrations. `contact_count` is what was last counted, never kept up.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from outrider.data.orm import Base, CreatedAt, Id, TenantId


class Segment(Base):
    """A name for rules about contacts; whom they hold for is found anew at every use."""

    __tablename__ = "segments"
    __table_args__ = (UniqueConstraint("tenant_id", "name"),)

    tenant_id: Mapped[TenantId]
    id: Mapped[Id]
    name: Mapped[str]
    description: Mapped[str] = mapped_column(server_default="")
    rules: Mapped[dict[str, Any]]
    contact_count: Mapped[int | None] = mapped_column(BigInteger)
    counted_at: Mapped[datetime | None]
    created_by: Mapped[str]
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[CreatedAt]
