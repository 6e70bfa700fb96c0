"""What is shown of contacts, as API, command line and tests see it. Pure data, no rules."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import msgspec


class AddressView(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One address of a contact, in the channel's stored form."""

    channel: str
    address: str


class ConsentView(msgspec.Struct, frozen=True):
    """The consent that holds now for a channel and purpose, and where it came from."""

    channel: str
    purpose: str
    status: str
    at: datetime
    source: str


class ConsentEventView(msgspec.Struct, frozen=True):
    """One entry of the proof of consent."""

    channel: str
    purpose: str
    status: str
    at: datetime
    source: str
    ip: str | None
    text_shown: str | None
    form_version: str | None


class ContactView(msgspec.Struct, frozen=True):
    """A contact with its addresses and the consent that holds."""

    id: UUID
    external_id: str | None
    name: str
    attributes: dict[str, Any]
    timezone: str | None
    locale: str | None
    created_at: datetime
    updated_at: datetime
    addresses: list[AddressView]
    consents: list[ConsentView]
    tags: list[str] = []


class SuppressionView(msgspec.Struct, frozen=True):
    """An entry of the do-not-contact list. `address` is None after erasure; the hash goes on blocking."""

    channel: str
    address_hash: str
    address: str | None
    scope: str
    reason: str
    source: str
    note: str
    created_by: str
    created_at: datetime
    is_installation: bool
    """Holds for every tenant; made by the installation's administrators."""
    expires_at: datetime | None = None
    """When it ends by itself; None: when somebody takes it away."""


class ListView(msgspec.Struct, frozen=True):
    """A list and how many contacts are on it."""

    id: UUID
    name: str
    created_at: datetime
    member_count: int


class MemberView(msgspec.Struct, frozen=True):
    """A contact on a list."""

    contact_id: UUID
    added_at: datetime


def contact_view(row: asyncpg.Record) -> ContactView:
    """A row of `contacts_by_id`."""
    return ContactView(
        id=row["id"],
        external_id=row["external_id"],
        name=row["name"],
        attributes=msgspec.json.decode(row["attributes"], type=dict[str, Any]),
        timezone=row["timezone"],
        locale=row["locale"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        addresses=msgspec.json.decode(row["addresses"], type=list[AddressView]),
        consents=msgspec.json.decode(row["consents"], type=list[ConsentView]),
        tags=list(row["tags"]),
    )
