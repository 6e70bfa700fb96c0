"""Tables of callbacks; the schema is made by the migrations."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from outrider.data.orm import Base, CreatedAt, Id, TenantId


class WebhookEvent(Base):
    """A callback that counted."""

    __tablename__ = "webhook_events"
    __table_args__ = (
        UniqueConstraint("tenant_id", "connection_id", "event_key"),
        CheckConstraint("kind IN ('report', 'inbound', 'unknown')", name="webhook_events_kind_check"),
        CheckConstraint("signature IN ('genuine', 'excepted')", name="webhook_events_signature_check"),
        CheckConstraint(
            "state IN ('new', 'parked', 'applied', 'orphan', 'unknown', 'unknown_number')",
            name="webhook_events_state_check",
        ),
        Index("webhook_events_due", "tenant_id", "due_at", postgresql_where=sa.text("state IN ('new', 'parked')")),
        Index("webhook_events_received", "received_at"),
    )

    tenant_id: Mapped[TenantId]
    id: Mapped[Id]
    connection_id: Mapped[UUID]
    provider: Mapped[str]
    event_key: Mapped[str]
    kind: Mapped[str]
    word: Mapped[str]
    provider_id: Mapped[str] = mapped_column(server_default="")
    message_id: Mapped[UUID | None]
    data: Mapped[dict[str, Any]] = mapped_column(server_default=sa.text("'{}'"))
    body_hash: Mapped[bytes]
    signature: Mapped[str]
    source: Mapped[str]
    state: Mapped[str]
    note: Mapped[str] = mapped_column(server_default="")
    attempts: Mapped[int] = mapped_column(server_default=sa.text("0"))
    due_at: Mapped[CreatedAt]
    repeats: Mapped[int] = mapped_column(server_default=sa.text("0"))
    is_conflicting: Mapped[bool] = mapped_column(server_default=sa.text("false"))
    received_at: Mapped[CreatedAt]
    applied_at: Mapped[datetime | None]


class WebhookRefusal(Base):
    """Callbacks that were not taken, counted by the minute."""

    __tablename__ = "webhook_refusals"
    __table_args__ = (Index("webhook_refusals_minute", "minute"),)

    tenant_id: Mapped[TenantId]
    connection_id: Mapped[UUID] = mapped_column(primary_key=True)
    minute: Mapped[datetime] = mapped_column(primary_key=True)
    source: Mapped[str] = mapped_column(primary_key=True)
    reason: Mapped[str] = mapped_column(primary_key=True)
    n: Mapped[int] = mapped_column(sa.BigInteger)


class CallbackException(Base):
    """A network whose callbacks are taken without a right signature until a moment."""

    __tablename__ = "callback_exceptions"
    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant_id", "connection_id"], ["connections.tenant_id", "connections.id"], ondelete="CASCADE"
        ),
    )

    tenant_id: Mapped[TenantId]
    id: Mapped[Id]
    connection_id: Mapped[UUID]
    network: Mapped[str]
    ends_at: Mapped[datetime]
    reason: Mapped[str]
    created_by: Mapped[str]
    created_at: Mapped[CreatedAt]


class InboundMessage(Base):
    """What somebody wrote to one of our numbers, and what they were answered at once."""

    __tablename__ = "inbound_messages"
    __table_args__ = (
        Index("inbound_messages_address", "tenant_id", "channel", "address", "id"),
        Index("inbound_messages_contact", "tenant_id", "contact_id", "id"),
    )

    tenant_id: Mapped[TenantId]
    id: Mapped[Id]
    channel: Mapped[str]
    connection_id: Mapped[UUID]
    sender_id: Mapped[UUID | None]
    contact_id: Mapped[UUID | None]
    address: Mapped[str]
    number: Mapped[str]
    text: Mapped[str]
    media_count: Mapped[int] = mapped_column(server_default=sa.text("0"))
    word: Mapped[str] = mapped_column(server_default="")
    is_flagged: Mapped[bool] = mapped_column(server_default=sa.text("false"))
    reply: Mapped[str] = mapped_column(server_default="")
    provider_id: Mapped[str]
    received_at: Mapped[CreatedAt]
