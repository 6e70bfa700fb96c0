"""Tenants, users, sessions and keys. Passwords, session tokens and keys are stored as hashes only."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import Text

from outrider.data.orm import Base, CreatedAt, Id, Moment, TenantId

_ROLE_IN = "role IN ('owner', 'admin', 'operator', 'support', 'viewer')"


class Tenant(Base):
    """One organisation whose contacts, senders and messages nobody else sees."""

    __tablename__ = "tenants"
    __table_args__ = (
        UniqueConstraint("name"),
        CheckConstraint("daily_budget_cents >= 0 AND monthly_budget_cents >= 0"),
    )

    id: Mapped[Id]
    name: Mapped[str]
    timezone: Mapped[str] = mapped_column(server_default=text("'UTC'"))
    settings: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    created_at: Mapped[CreatedAt]
    daily_budget_cents: Mapped[int | None] = mapped_column(BigInteger)
    monthly_budget_cents: Mapped[int | None] = mapped_column(BigInteger)
    open_most: Mapped[int | None] = mapped_column(BigInteger)


class User(Base):
    """A person of one tenant."""

    __tablename__ = "users"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id"], ["tenants.id"]),
        UniqueConstraint("tenant_id", "email"),
        CheckConstraint(_ROLE_IN),
        Index("users_email", "email"),
    )

    tenant_id: Mapped[TenantId]
    id: Mapped[Id]
    email: Mapped[str]
    name: Mapped[str] = mapped_column(server_default=text("''"))
    password_hash: Mapped[str]
    role: Mapped[str]
    is_installation_admin: Mapped[bool] = mapped_column(server_default=text("false"))
    is_active: Mapped[bool] = mapped_column(server_default=text("true"))
    created_at: Mapped[CreatedAt]
    last_login_at: Mapped[datetime | None]
    password_changed_at: Mapped[Moment] = mapped_column(server_default=func.now())


class LoginAttempts(Base):
    """Wrong passwords of one e-mail address, whether a user has it or not."""

    __tablename__ = "login_attempts"
    __table_args__ = (Index("login_attempts_ends", "ends_at"),)

    email_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    failed_count: Mapped[int]
    ends_at: Mapped[Moment]


class Session(Base):
    """One sign-in. The token itself is only in the browser's cookie."""

    __tablename__ = "sessions"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "user_id"], ["users.tenant_id", "users.id"], ondelete="CASCADE"),
        Index("sessions_token", "token_hash", unique=True),
        Index("sessions_user", "tenant_id", "user_id"),
    )

    tenant_id: Mapped[TenantId]
    token_hash: Mapped[bytes] = mapped_column(primary_key=True)
    user_id: Mapped[UUID]
    created_at: Mapped[CreatedAt]
    seen_at: Mapped[CreatedAt]
    expires_at: Mapped[Moment]
    ip: Mapped[str | None]
    user_agent: Mapped[str | None]


class ApiKey(Base):
    """A key of a program. The key itself is shown once, when it is made."""

    __tablename__ = "api_keys"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id"], ["tenants.id"]),
        CheckConstraint(_ROLE_IN),
        Index("api_keys_hash", "key_hash", unique=True),
    )

    tenant_id: Mapped[TenantId]
    id: Mapped[Id]
    name: Mapped[str]
    prefix: Mapped[str]
    key_hash: Mapped[bytes]
    role: Mapped[str]
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    created_by: Mapped[str]
    created_at: Mapped[CreatedAt]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]


class TenantLook(Base):
    """How a tenant's public pages look; without a row they look plain."""

    __tablename__ = "tenant_looks"
    __table_args__ = (CheckConstraint("(logo IS NULL) = (logo_type IS NULL)", name="tenant_looks_logo_check"),)

    tenant_id: Mapped[TenantId]
    display_name: Mapped[str] = mapped_column(server_default="")
    colour: Mapped[str] = mapped_column(server_default="")
    colour_dark: Mapped[str] = mapped_column(server_default="")
    footer: Mapped[str] = mapped_column(server_default="")
    logo: Mapped[bytes | None]
    logo_type: Mapped[str | None]
    changed_by: Mapped[str]
    changed_at: Mapped[CreatedAt]
