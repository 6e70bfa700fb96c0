"""Tables of exports and erasures.

Owns the typed models; the schema is made by the migrations. Neither table says who a person was once they are erased.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from outrider.data.orm import Base, CreatedAt, Id, TenantId


class Export(Base):
    """A file made of a tenant's data; the file itself is below the data directory until `expires_at`."""

    __tablename__ = "exports"
    __table_args__ = (
        CheckConstraint(
            "kind IN ('person', 'contacts', 'lists', 'suppressions', 'consents')", name="exports_kind_check"
        ),
        CheckConstraint(
            "state IN ('waiting', 'running', 'completed', 'failed', 'expired', 'erased')", name="exports_state_check"
        ),
        Index("exports_contact", "tenant_id", "contact_id"),
    )

    tenant_id: Mapped[TenantId]
    id: Mapped[Id]
    kind: Mapped[str]
    contact_id: Mapped[UUID | None]
    options: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    job_id: Mapped[UUID | None]
    state: Mapped[str] = mapped_column(server_default="waiting")
    row_count: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    size_bytes: Mapped[int | None] = mapped_column(BigInteger)
    sha256: Mapped[bytes | None]
    error: Mapped[str | None]
    created_by: Mapped[str]
    created_at: Mapped[CreatedAt]
    finished_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]


class Erasure(Base):
    """Somebody was erased: ids and hashes of addresses alone, to do it again after a restore."""

    __tablename__ = "erasures"
    __table_args__ = (CheckConstraint("state IN ('waiting', 'running', 'completed')", name="erasures_state_check"),)

    tenant_id: Mapped[TenantId]
    id: Mapped[Id]
    contact_ids: Mapped[list[Any]] = mapped_column(server_default=text("'[]'"))
    addresses: Mapped[list[Any]] = mapped_column(server_default=text("'[]'"))
    state: Mapped[str] = mapped_column(server_default="waiting")
    job_id: Mapped[UUID | None]
    checkpoint: Mapped[UUID | None]
    message_count: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    file_count: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    reason: Mapped[str]
    created_by: Mapped[str]
    created_at: Mapped[CreatedAt]
    finished_at: Mapped[datetime | None]
