"""The audit log's tables. Written by `append` alone; entries are never changed."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from outrider.data.orm import Base, Moment, TenantId


class AuditHead(Base):
    """The tip of one tenant's chain; its row is the lock of every append."""

    __tablename__ = "audit_heads"

    tenant_id: Mapped[TenantId]
    seq: Mapped[int] = mapped_column(BigInteger)
    hash: Mapped[bytes]


class AuditEntry(Base):
    """One thing somebody did. `hash` covers every other column and the previous entry's hash."""

    __tablename__ = "audit_log"
    __table_args__ = (Index("audit_log_at", "tenant_id", "at"),)

    tenant_id: Mapped[TenantId]
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    at: Mapped[Moment] = mapped_column(server_default=func.clock_timestamp())
    actor_kind: Mapped[str]
    actor: Mapped[str]
    action: Mapped[str]
    target_kind: Mapped[str]
    target_id: Mapped[str]
    reason: Mapped[str] = mapped_column(server_default=text("'not given'"))
    details: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    ip: Mapped[str | None]
    previous_hash: Mapped[bytes]
    hash: Mapped[bytes]
