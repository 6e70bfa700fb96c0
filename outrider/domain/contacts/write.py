"""Making and changing contacts and their addresses.

Owns the uniqueness of addresses and external ids within a tenant; consent and do-not-contact are other verbs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
import msgspec
import orjson
from msgspec import UNSET, UnsetType

from outrider.base.errors import Refused
from outrider.contracts.actor import Actor
from outrider.contracts.channel import Channel
from outrider.data.db import UnitOfWork
from outrider.domain.audit.append import append
from outrider.domain.contacts import attributes as typed
from outrider.domain.contacts import read, tags, values
from outrider.domain.contacts.channels import channel_of, stored_form
from outrider.domain.contacts.rows import SQL
from outrider.domain.contacts.views import AddressView, ContactView

MOST_ADDRESSES = 20
_T = TypeVar("_T")


class NewContact(msgspec.Struct, forbid_unknown_fields=True):
    """A contact to be made."""

    addresses: list[AddressView] = []
    name: str = ""
    external_id: str | None = None
    attributes: dict[str, Any] = {}
    timezone: str | None = None
    locale: str | None = None
    tags: list[str] = []


class ContactChange(msgspec.Struct, forbid_unknown_fields=True):
    """What shall be different; what is not named stays. An attribute set to null is removed."""

    name: str | UnsetType = UNSET
    external_id: str | UnsetType | None = UNSET
    attributes: dict[str, Any] | UnsetType = UNSET
    timezone: str | UnsetType | None = UNSET
    locale: str | UnsetType | None = UNSET


async def create(uow: UnitOfWork, channels: Mapping[str, Channel], actor: Actor, new: NewContact) -> ContactView:
    """Make a contact with its addresses and tags. Attributes that are defined must fit their type.

    Raises:  Refused(address_taken, external_id_taken; 409) with the id of the contact that has it; nothing was made.
    """
    if len(new.addresses) > MOST_ADDRESSES:
        raise Refused("too_many", f"at most {MOST_ADDRESSES} addresses", field="/addresses")
    external_id = values.check_external_id(new.external_id)
    attributes = typed.conform(values.check_attributes(new.attributes), await typed.listed(uow))
    row = await SQL.insert_contact.one(
        uow.raw,
        uow.tenant,
        external_id,
        values.check_name(new.name),
        orjson.dumps(attributes).decode(),
        values.check_timezone(new.timezone),
        values.check_locale(new.locale),
    )
    if row is None:
        raise _external_id_taken(await SQL.external_id_owner.value(uow.raw, uow.tenant, external_id))
    contact_id: UUID = row["id"]
    for position, given in enumerate(new.addresses):
        await _attach(uow, channels, contact_id, given, field=f"/addresses/{position}")
    if new.tags:
        await tags.add(uow, actor, [contact_id], new.tags)
    await append(uow, actor, action="contact.create", target=("contact", str(contact_id)))
    return await read.get(uow, contact_id)


async def update(uow: UnitOfWork, actor: Actor, contact_id: UUID, change: ContactChange) -> ContactView:
    """Change fields of a contact; attributes are merged one level deep.

    Raises:  Refused(not_found; external_id_taken, 409).
    """
    row = await SQL.lock_contact.one(uow.raw, uow.tenant, contact_id)
    if row is None:
        raise Refused("not_found", "no such contact", field="/id", status=404)
    attributes = orjson.loads(row["attributes"])
    if change.attributes is not UNSET:
        merged = attributes | typed.conform(change.attributes, await typed.listed(uow))
        attributes = values.check_attributes({key: value for key, value in merged.items() if value is not None})
    external_id = _new(change.external_id, row["external_id"], values.check_external_id)
    owner = await SQL.external_id_owner.value(uow.raw, uow.tenant, external_id)
    if owner not in {None, contact_id}:
        raise _external_id_taken(owner)
    try:
        await SQL.update_contact.value(
            uow.raw,
            uow.tenant,
            contact_id,
            external_id,
            _new(change.name, row["name"], values.check_name),
            orjson.dumps(attributes).decode(),
            _new(change.timezone, row["timezone"], values.check_timezone),
            _new(change.locale, row["locale"], values.check_locale),
        )
    except asyncpg.UniqueViolationError:  # somebody took it since we looked
        raise _external_id_taken(None) from None
    changed = [name for name in change.__struct_fields__ if getattr(change, name) is not UNSET]
    await append(uow, actor, action="contact.update", target=("contact", str(contact_id)), details={"fields": changed})
    return await read.get(uow, contact_id)


async def add_address(
    uow: UnitOfWork, channels: Mapping[str, Channel], actor: Actor, contact_id: UUID, given: AddressView
) -> ContactView:
    """Give a contact one more address; giving it an address it has changes nothing.

    Raises:  Refused(not_found; address_taken, 409; too_many).
    """
    contact = await _held(uow, contact_id)
    if len(contact.addresses) >= MOST_ADDRESSES:
        raise Refused("too_many", f"at most {MOST_ADDRESSES} addresses", field="/address")
    if await _attach(uow, channels, contact_id, given, field=""):
        await append(
            uow,
            actor,
            action="contact.add_address",
            target=("contact", str(contact_id)),
            details={"channel": given.channel},
        )
    return await read.get(uow, contact_id)


async def remove_address(
    uow: UnitOfWork, channels: Mapping[str, Channel], actor: Actor, contact_id: UUID, given: AddressView
) -> ContactView:
    """Take an address from a contact. What stands against the address on the do-not-contact list stays.

    Raises:  Refused(not_found).
    """
    await _held(uow, contact_id)
    plain = await stored_form(uow.raw, uow.tenant, channel_of(channels, given.channel), given.address, field="/address")
    if await SQL.delete_address.value(uow.raw, uow.tenant, given.channel, plain, contact_id) is None:
        raise Refused("not_found", "the contact does not have this address", field="/address", status=404)
    await append(
        uow,
        actor,
        action="contact.remove_address",
        target=("contact", str(contact_id)),
        details={"channel": given.channel},
    )
    return await read.get(uow, contact_id)


async def _held(uow: UnitOfWork, contact_id: UUID) -> ContactView:
    """The contact, locked, so that two changes of its addresses follow one another."""
    await SQL.lock_contact.one(uow.raw, uow.tenant, contact_id)
    return await read.get(uow, contact_id)


async def _attach(
    uow: UnitOfWork, channels: Mapping[str, Channel], contact_id: UUID, given: AddressView, *, field: str
) -> bool:
    """Whether the address is new to the contact."""
    channel = channel_of(channels, given.channel, field=f"{field}/channel")
    plain = await stored_form(uow.raw, uow.tenant, channel, given.address, field=f"{field}/address")
    if await SQL.insert_address.value(uow.raw, uow.tenant, given.channel, plain, contact_id) is not None:
        return True
    owner = await SQL.address_owner.value(uow.raw, uow.tenant, given.channel, plain)
    if owner == contact_id:
        return False
    raise Refused(
        "address_taken", "another contact has this address", field=f"{field}/address", status=409, contact_id=str(owner)
    )


def _external_id_taken(owner: UUID | None) -> Refused:
    return Refused(
        "external_id_taken",
        "another contact has this id",
        field="/external_id",
        status=409,
        contact_id=str(owner) if owner else None,
    )


def _new(given: _T | UnsetType, old: _T, check: Callable[[_T], _T]) -> _T:
    """The value to store: the old one unless another was given."""
    return old if isinstance(given, UnsetType) else check(given)
