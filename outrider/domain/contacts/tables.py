"""Tables of contacts: people, addresses, consent, do-not-contact, lists, tags, typed attributes and imports.

Owns the typed models; the schema is made by the migrations. Never holds rules: those are in the verbs beside it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKeyConstraint, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from outrider.data.orm import Base, CreatedAt, Id, TenantId


class Contact(Base):
    """A person who may be reached through any number of addresses."""

    __tablename__ = "contacts"
    __table_args__ = (UniqueConstraint("tenant_id", "external_id"),)

    tenant_id: Mapped[TenantId]
    id: Mapped[Id]
    external_id: Mapped[str | None]
    name: Mapped[str] = mapped_column(server_default="")
    attributes: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    timezone: Mapped[str | None]
    locale: Mapped[str | None]
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[CreatedAt]


class Address(Base):
    """One way to reach a contact; it belongs to one contact per tenant and channel, in the channel's stored form."""

    __tablename__ = "addresses"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "contact_id"], ["contacts.tenant_id", "contacts.id"], ondelete="CASCADE"),
        Index("addresses_contact", "tenant_id", "contact_id", "channel"),
    )

    tenant_id: Mapped[TenantId]
    channel: Mapped[str] = mapped_column(primary_key=True)
    address: Mapped[str] = mapped_column(primary_key=True)
    contact_id: Mapped[UUID]
    created_at: Mapped[CreatedAt]


class Consent(Base):
    """The consent that holds now, per contact, channel and purpose."""

    __tablename__ = "consents"
    __table_args__ = (CheckConstraint("status IN ('granted', 'withdrawn')", name="consents_status_check"),)

    tenant_id: Mapped[TenantId]
    contact_id: Mapped[UUID] = mapped_column(primary_key=True)
    channel: Mapped[str] = mapped_column(primary_key=True)
    purpose: Mapped[str] = mapped_column(primary_key=True)
    status: Mapped[str]
    at: Mapped[CreatedAt]
    source: Mapped[str]


class ConsentEvent(Base):
    """One entry of the append-only proof of consent."""

    __tablename__ = "consent_events"
    __table_args__ = (Index("consent_events_contact", "tenant_id", "contact_id"),)

    tenant_id: Mapped[TenantId]
    id: Mapped[Id]
    contact_id: Mapped[UUID]
    channel: Mapped[str]
    purpose: Mapped[str]
    status: Mapped[str]
    at: Mapped[CreatedAt]
    source: Mapped[str]
    ip: Mapped[str | None]
    text_shown: Mapped[str | None]
    form_version: Mapped[str | None]


class Suppression(Base):
    """An address that must not be contacted, keyed by hash so that erasure keeps it; tenant NIL holds for all."""

    __tablename__ = "suppressions"
    __table_args__ = (
        CheckConstraint("scope IN ('all', 'bulk')", name="suppressions_scope_check"),
        Index(
            "suppressions_newest",
            "created_at",
            postgresql_where=text("reason IN ('unsubscribe', 'stop', 'complaint', 'hard_bounce')"),
        ),
        Index("suppressions_expiring", "expires_at", postgresql_where=text("expires_at IS NOT NULL")),
    )

    tenant_id: Mapped[TenantId]
    channel: Mapped[str] = mapped_column(primary_key=True)
    address_hash: Mapped[bytes] = mapped_column(primary_key=True)
    address: Mapped[str | None]
    scope: Mapped[str] = mapped_column(server_default="all")
    reason: Mapped[str]
    source: Mapped[str]
    note: Mapped[str] = mapped_column(server_default="")
    created_by: Mapped[str]
    created_at: Mapped[CreatedAt]
    expires_at: Mapped[datetime | None]


class ContactList(Base):
    """A named list of contacts."""

    __tablename__ = "lists"
    __table_args__ = (UniqueConstraint("tenant_id", "name"),)

    tenant_id: Mapped[TenantId]
    id: Mapped[Id]
    name: Mapped[str]
    created_at: Mapped[CreatedAt]


class ListMember(Base):
    """A contact on a list."""

    __tablename__ = "list_members"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "list_id"], ["lists.tenant_id", "lists.id"], ondelete="CASCADE"),
        ForeignKeyConstraint(["tenant_id", "contact_id"], ["contacts.tenant_id", "contacts.id"], ondelete="CASCADE"),
        Index("list_members_contact", "tenant_id", "contact_id", "list_id"),
    )

    tenant_id: Mapped[TenantId]
    list_id: Mapped[UUID] = mapped_column(primary_key=True)
    contact_id: Mapped[UUID] = mapped_column(primary_key=True)
    added_at: Mapped[CreatedAt]


class ListOffer(Base):
    """A list that people may turn on and off themselves, with what they read about it."""

    __tablename__ = "list_offers"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "list_id"], ["lists.tenant_id", "lists.id"], ondelete="CASCADE"),
    )

    tenant_id: Mapped[TenantId]
    list_id: Mapped[UUID] = mapped_column(primary_key=True)
    title: Mapped[str]
    description: Mapped[str] = mapped_column(server_default="")
    place: Mapped[int] = mapped_column(server_default=text("0"))
    offered_by: Mapped[str]
    offered_at: Mapped[CreatedAt]


class ListRefusal(Base):
    """A list that a person turned off: nobody but they puts it on again."""

    __tablename__ = "list_refusals"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "contact_id"], ["contacts.tenant_id", "contacts.id"], ondelete="CASCADE"),
        ForeignKeyConstraint(["tenant_id", "list_id"], ["lists.tenant_id", "lists.id"], ondelete="CASCADE"),
        Index("list_refusals_list", "tenant_id", "list_id"),
    )

    tenant_id: Mapped[TenantId]
    contact_id: Mapped[UUID] = mapped_column(primary_key=True)
    list_id: Mapped[UUID] = mapped_column(primary_key=True)
    source: Mapped[str]
    at: Mapped[CreatedAt]


class AttributeDefinition(Base):
    """What an attribute of the tenant's contacts holds; attributes without one hold any JSON."""

    __tablename__ = "attribute_definitions"
    __table_args__ = (
        CheckConstraint(
            "type IN ('text', 'number', 'boolean', 'date', 'moment', 'choice')", name="attribute_definitions_type_check"
        ),
    )

    tenant_id: Mapped[TenantId]
    key: Mapped[str] = mapped_column(primary_key=True)
    type: Mapped[str]
    label: Mapped[str] = mapped_column(server_default="")
    choices: Mapped[list[Any]] = mapped_column(server_default=text("'[]'"))
    created_by: Mapped[str]
    created_at: Mapped[CreatedAt]


class ContactTag(Base):
    """A word that somebody put on a contact."""

    __tablename__ = "contact_tags"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "contact_id"], ["contacts.tenant_id", "contacts.id"], ondelete="CASCADE"),
        Index("contact_tags_tag", "tenant_id", "tag", "contact_id"),
    )

    tenant_id: Mapped[TenantId]
    contact_id: Mapped[UUID] = mapped_column(primary_key=True)
    tag: Mapped[str] = mapped_column(primary_key=True)
    added_at: Mapped[CreatedAt]


class ContactMerge(Base):
    """A contact that became another one, so that its old id still leads somewhere."""

    __tablename__ = "contact_merges"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "contact_id"], ["contacts.tenant_id", "contacts.id"], ondelete="CASCADE"),
        Index("contact_merges_contact", "tenant_id", "contact_id"),
    )

    tenant_id: Mapped[TenantId]
    merged_id: Mapped[UUID] = mapped_column(primary_key=True)
    contact_id: Mapped[UUID]
    merged_by: Mapped[str]
    merged_at: Mapped[CreatedAt]


class Import(Base):
    """One import of a file, with its progress: everything up to `checkpoint_line` is committed."""

    __tablename__ = "imports"
    __table_args__ = (
        CheckConstraint("state IN ('running', 'completed', 'failed', 'cancelled')", name="imports_state_check"),
        CheckConstraint("kind IN ('contacts', 'suppressions', 'consents')", name="imports_kind_check"),
        CheckConstraint(
            "undo_state IN ('running', 'completed', 'cancelled', 'failed')", name="imports_undo_state_check"
        ),
    )

    tenant_id: Mapped[TenantId]
    id: Mapped[Id]
    file_name: Mapped[str]
    sha256: Mapped[bytes]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    list_id: Mapped[UUID | None]
    options: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    state: Mapped[str] = mapped_column(server_default="running")
    row_count: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    created_count: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    updated_count: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    unchanged_count: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    duplicate_count: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    rejected_count: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    suppressed_count: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    kept_withdrawn_count: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    total_count: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    checkpoint_line: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    error: Mapped[str | None]
    created_by: Mapped[str]
    created_at: Mapped[CreatedAt]
    progress_at: Mapped[CreatedAt]
    finished_at: Mapped[datetime | None]
    kind: Mapped[str] = mapped_column(server_default="contacts")
    is_dry_run: Mapped[bool] = mapped_column(server_default=text("false"))
    rejected_by: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    undo_state: Mapped[str | None]
    undo_job_id: Mapped[UUID | None]
    restored_count: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    deleted_count: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    left_count: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))


class ImportRowError(Base):
    """One row of a file that was refused, or one field of it."""

    __tablename__ = "import_errors"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "import_id"], ["imports.tenant_id", "imports.id"], ondelete="CASCADE"),
    )

    tenant_id: Mapped[TenantId]
    import_id: Mapped[UUID] = mapped_column(primary_key=True)
    line: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    field: Mapped[str] = mapped_column(primary_key=True)
    code: Mapped[str]
    message: Mapped[str]
    value: Mapped[str]


class ImportChange(Base):
    """What an import did to one contact, or a dry run would do: what was before, what is after, what undoing it did."""

    __tablename__ = "import_changes"
    __table_args__ = (
        CheckConstraint("outcome IN ('restored', 'deleted', 'partly', 'left')", name="import_changes_outcome_check"),
        Index("import_changes_contact", "tenant_id", "contact_id"),
    )

    tenant_id: Mapped[TenantId]
    import_id: Mapped[UUID] = mapped_column(primary_key=True)
    contact_id: Mapped[UUID] = mapped_column(primary_key=True)
    line: Mapped[int] = mapped_column(BigInteger)
    address: Mapped[str]
    is_new: Mapped[bool]
    before: Mapped[dict[str, Any]]
    after: Mapped[dict[str, Any]]
    at: Mapped[CreatedAt]
    outcome: Mapped[str | None]
    reasons: Mapped[list[Any]] = mapped_column(server_default=text("'[]'"))


class ImportKey(Base):
    """An address or external id that a dry run under way has met."""

    __tablename__ = "import_keys"

    tenant_id: Mapped[TenantId]
    import_id: Mapped[UUID] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    contact_id: Mapped[UUID]
