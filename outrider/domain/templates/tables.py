"""Tables of templates: names, versions, and the immutable contents they point to.

Owns the typed models; the schema is made by the migrations. Never holds rules: those are in the verbs beside it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKeyConstraint, SmallInteger, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from outrider.data.orm import Base, CreatedAt, Id, TenantId


class ContentRow(Base):
    """What a template version or an inline message says; written once, found again by its hash."""

    __tablename__ = "contents"
    __table_args__ = (UniqueConstraint("tenant_id", "hash"),)

    tenant_id: Mapped[TenantId]
    id: Mapped[Id]
    channel: Mapped[str]
    hash: Mapped[bytes]
    is_template: Mapped[bool]
    subject: Mapped[str] = mapped_column(server_default="")
    html: Mapped[str | None]
    text: Mapped[str | None]
    preheader: Mapped[str] = mapped_column(server_default="")
    compiled: Mapped[dict[str, Any] | None]
    created_at: Mapped[CreatedAt]


class AttachmentRow(Base):
    """A file that goes with a content."""

    __tablename__ = "content_attachments"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "content_id"], ["contents.tenant_id", "contents.id"], ondelete="CASCADE"),
    )

    tenant_id: Mapped[TenantId]
    content_id: Mapped[UUID] = mapped_column(primary_key=True)
    position: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    name: Mapped[str]
    content_type: Mapped[str]
    content: Mapped[bytes]


class Template(Base):
    """A name under which versions are kept."""

    __tablename__ = "templates"
    __table_args__ = (UniqueConstraint("tenant_id", "name"),)

    tenant_id: Mapped[TenantId]
    id: Mapped[Id]
    name: Mapped[str]
    channel: Mapped[str]
    created_at: Mapped[CreatedAt]
    archived_at: Mapped[datetime | None]


class TemplateVersion(Base):
    """One version; what was sent with it never changes. `written`: what its author wrote, where that differs."""

    __tablename__ = "template_versions"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "template_id"], ["templates.tenant_id", "templates.id"], ondelete="CASCADE"),
        ForeignKeyConstraint(["tenant_id", "content_id"], ["contents.tenant_id", "contents.id"]),
    )

    tenant_id: Mapped[TenantId]
    template_id: Mapped[UUID] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    content_id: Mapped[UUID]
    created_by: Mapped[str]
    created_at: Mapped[CreatedAt]
    written: Mapped[dict[str, Any] | None]
