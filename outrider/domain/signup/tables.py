"""Tables of forms and sign-ups: the typed models; the schema is made by the migrations."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKeyConstraint, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from outrider.data.orm import Base, CreatedAt, Id, TenantId


class SignupForm(Base):
    """A public form: what people read, what they agree to, and from whom the confirmation comes."""

    __tablename__ = "signup_forms"
    __table_args__ = (
        UniqueConstraint("tenant_id", "name"),
        ForeignKeyConstraint(["tenant_id", "sender_id"], ["senders.tenant_id", "senders.id"]),
    )

    tenant_id: Mapped[TenantId]
    id: Mapped[Id]
    name: Mapped[str]
    title: Mapped[str]
    intro: Mapped[str] = mapped_column(server_default="")
    consent_text: Mapped[str]
    purpose: Mapped[str]
    sender_id: Mapped[UUID]
    asks_name: Mapped[bool] = mapped_column(server_default=text("false"))
    is_open: Mapped[bool] = mapped_column(server_default=text("true"))
    version: Mapped[int] = mapped_column(server_default=text("1"))
    created_by: Mapped[str]
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[CreatedAt]


class SignupFormList(Base):
    """A list that a form offers."""

    __tablename__ = "signup_form_lists"
    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant_id", "form_id"], ["signup_forms.tenant_id", "signup_forms.id"], ondelete="CASCADE"
        ),
        ForeignKeyConstraint(
            ["tenant_id", "list_id"], ["list_offers.tenant_id", "list_offers.list_id"], ondelete="CASCADE"
        ),
        Index("signup_form_lists_list", "tenant_id", "list_id"),
    )

    tenant_id: Mapped[TenantId]
    form_id: Mapped[UUID] = mapped_column(primary_key=True)
    list_id: Mapped[UUID] = mapped_column(primary_key=True)


class Signup(Base):
    """Somebody who filled a form in; no contact until they confirm."""

    __tablename__ = "signups"
    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant_id", "form_id"], ["signup_forms.tenant_id", "signup_forms.id"], ondelete="CASCADE"
        ),
        CheckConstraint("state IN ('waiting', 'confirmed', 'refused', 'expired')", name="signups_state_check"),
        Index(
            "signups_waiting",
            "tenant_id",
            "form_id",
            "address_hash",
            unique=True,
            postgresql_where=text("state = 'waiting'"),
        ),
        Index("signups_address", "tenant_id", "address_hash"),
        Index("signups_mailed", "tenant_id", "mailed_at"),
    )

    tenant_id: Mapped[TenantId]
    id: Mapped[Id]
    form_id: Mapped[UUID]
    form_version: Mapped[int]
    address_hash: Mapped[bytes]
    address: Mapped[str]
    name: Mapped[str] = mapped_column(server_default="")
    list_ids: Mapped[list[Any]]
    text_shown: Mapped[str]
    source: Mapped[str]
    ip: Mapped[str | None]
    state: Mapped[str] = mapped_column(server_default="waiting")
    mail_count: Mapped[int] = mapped_column(server_default=text("0"))
    mailed_at: Mapped[datetime | None]
    created_at: Mapped[CreatedAt]
    expires_at: Mapped[datetime]
    settled_at: Mapped[datetime | None]
