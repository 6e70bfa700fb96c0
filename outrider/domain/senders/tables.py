"""Tables of senders and of the provider connections behind them.

Owns the typed models; the schema is made by the migrations. Secrets are here only sealed.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKeyConstraint, Index, SmallInteger, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from outrider.data.orm import Base, CreatedAt, Id, TenantId


class Connection(Base):
    """An account at a provider. `sealed_secrets` opens only with the installation's key, for this tenant and row."""

    __tablename__ = "connections"
    __table_args__ = (
        UniqueConstraint("tenant_id", "name"),
        Index("connections_account", "account", postgresql_where=text("account IS NOT NULL")),
    )

    tenant_id: Mapped[TenantId]
    id: Mapped[Id]
    name: Mapped[str]
    provider: Mapped[str]
    settings: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    sealed_secrets: Mapped[str] = mapped_column(server_default="")
    version: Mapped[int] = mapped_column(server_default=text("1"))
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[CreatedAt]
    account: Mapped[str | None]


class Sender(Base):
    """Who a message comes from. `dkim` lists domain, selector and algorithm; the private keys are in `sealed_dkim`."""

    __tablename__ = "senders"
    __table_args__ = (
        UniqueConstraint("tenant_id", "name"),
        ForeignKeyConstraint(["tenant_id", "connection_id"], ["connections.tenant_id", "connections.id"]),
        CheckConstraint(
            "transactional_guarantee IN ('at_least_once', 'at_most_once')", name="senders_transactional_guarantee_check"
        ),
        CheckConstraint("bulk_guarantee IN ('at_least_once', 'at_most_once')", name="senders_bulk_guarantee_check"),
    )

    tenant_id: Mapped[TenantId]
    id: Mapped[Id]
    name: Mapped[str]
    channel: Mapped[str]
    connection_id: Mapped[UUID]
    from_address: Mapped[str]
    from_name: Mapped[str] = mapped_column(server_default="")
    reply_to: Mapped[str] = mapped_column(server_default="")
    return_path: Mapped[str] = mapped_column(server_default="")
    postal_address: Mapped[str] = mapped_column(server_default="")
    public_url: Mapped[str] = mapped_column(server_default="")
    tracking_url: Mapped[str] = mapped_column(server_default="")
    opt_out_line: Mapped[str] = mapped_column(server_default="")
    dkim: Mapped[list[Any]] = mapped_column(server_default=text("'[]'"))
    sealed_dkim: Mapped[str] = mapped_column(server_default="")
    transactional_guarantee: Mapped[str] = mapped_column(server_default="at_least_once")
    bulk_guarantee: Mapped[str] = mapped_column(server_default="at_most_once")
    version: Mapped[int] = mapped_column(server_default=text("1"))
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[CreatedAt]
    archived_at: Mapped[datetime | None]


class PoolNumber(Base):
    """A number of a sender's pool; a number is in one pool of its tenant."""

    __tablename__ = "pool_numbers"
    __table_args__ = (
        UniqueConstraint("tenant_id", "number"),
        ForeignKeyConstraint(["tenant_id", "sender_id"], ["senders.tenant_id", "senders.id"]),
        Index("pool_numbers_sender", "tenant_id", "sender_id"),
    )

    tenant_id: Mapped[TenantId]
    id: Mapped[Id]
    number: Mapped[str]
    sender_id: Mapped[UUID]
    is_active: Mapped[bool] = mapped_column(server_default=text("true"))
    created_at: Mapped[CreatedAt]


class StickyNumber(Base):
    """From which number of a pool somebody hears."""

    __tablename__ = "sticky_numbers"
    __table_args__ = (Index("sticky_numbers_number", "tenant_id", "sender_id", "number"),)

    tenant_id: Mapped[TenantId]
    sender_id: Mapped[UUID] = mapped_column(primary_key=True)
    address: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[str]
    since: Mapped[CreatedAt]


class Fallback(Base):
    """A connection that takes over for a sender, when those before it cannot be reached."""

    __tablename__ = "sender_fallbacks"
    __table_args__ = (
        UniqueConstraint("tenant_id", "sender_id", "connection_id"),
        ForeignKeyConstraint(["tenant_id", "sender_id"], ["senders.tenant_id", "senders.id"]),
        ForeignKeyConstraint(["tenant_id", "connection_id"], ["connections.tenant_id", "connections.id"]),
        CheckConstraint("position BETWEEN 1 AND 5", name="sender_fallbacks_position_check"),
        Index("sender_fallbacks_connection", "tenant_id", "connection_id"),
    )

    tenant_id: Mapped[TenantId]
    sender_id: Mapped[UUID] = mapped_column(primary_key=True)
    position: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    connection_id: Mapped[UUID]


class Circuit(Base):
    """A connection that could not be reached lately, as all workers see it together."""

    __tablename__ = "circuits"
    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant_id", "connection_id"], ["connections.tenant_id", "connections.id"], ondelete="CASCADE"
        ),
        CheckConstraint("state IN ('closed', 'open', 'half_open')", name="circuits_state_check"),
    )

    tenant_id: Mapped[TenantId]
    connection_id: Mapped[UUID] = mapped_column(primary_key=True)
    state: Mapped[str]
    failures: Mapped[int]
    openings: Mapped[int] = mapped_column(server_default=text("0"))
    passed: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    cause: Mapped[str]
    failed_at: Mapped[datetime]
    opened_at: Mapped[datetime | None]
    try_at: Mapped[datetime | None]
