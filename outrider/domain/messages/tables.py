"""Tables beside the ledger that are typed models: what came back for now.

Owns the typed models; the ledger itself is partitioned and written by named statements alone.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import Index, text
from sqlalchemy.orm import Mapped, mapped_column

from outrider.data.orm import Base, TenantId


class SoftBounceRow(Base):
    """A message that came back for now; `is_used`: an entry of the do-not-contact list was made of it."""

    __tablename__ = "soft_bounces"
    __table_args__ = (
        Index("soft_bounces_address", "tenant_id", "channel", "address", "at"),
        Index("soft_bounces_at", "at"),
    )

    tenant_id: Mapped[TenantId]
    message_id: Mapped[UUID] = mapped_column(primary_key=True)
    channel: Mapped[str]
    address: Mapped[str]
    at: Mapped[datetime]
    cause: Mapped[str] = mapped_column(server_default="")
    detail: Mapped[str] = mapped_column(server_default="")
    is_used: Mapped[bool] = mapped_column(server_default=text("false"))
