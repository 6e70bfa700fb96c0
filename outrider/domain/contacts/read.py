"""Reading contacts: one, many in order, or whoever has an address."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

from outrider.base.errors import Refused
from outrider.base.ids import NIL
from outrider.contracts.channel import Channel
from outrider.data.db import UnitOfWork
from outrider.domain.contacts.channels import channel_of, stored_form
from outrider.domain.contacts.rows import SQL
from outrider.domain.contacts.views import ConsentEventView, ContactView, contact_view


async def get(uow: UnitOfWork, contact_id: UUID) -> ContactView:
    """One contact.

    Raises:  Refused(not_found).
    """
    found = await by_ids(uow, [contact_id])
    if not found:
        raise Refused("not_found", "no such contact", field="/id", status=404)
    return found[0]


async def by_ids(uow: UnitOfWork, ids: Sequence[UUID]) -> list[ContactView]:
    """Contacts by id, in the order they were made; ids that do not exist are left out."""
    return [contact_view(row) for row in await SQL.contacts_by_id.many(uow.raw, uow.tenant, list(ids))]


async def listed(uow: UnitOfWork, *, limit: int, after: UUID | None = None) -> list[ContactView]:
    """Contacts in the order they were made, `limit` (1..1000) of those after `after`."""
    rows = await SQL.contact_ids.many(uow.raw, uow.tenant, after or NIL, limit)
    return await by_ids(uow, [row["id"] for row in rows])


async def by_address(
    uow: UnitOfWork, channels: Mapping[str, Channel], channel: str, address: str
) -> ContactView | None:
    """Whoever has this address, typed in any form the channel understands [S1-39].

    Raises:  Refused naming channel or address when it cannot be one.
    """
    plain = await stored_form(uow.raw, uow.tenant, channel_of(channels, channel), address, field="/address")
    owner = await SQL.address_owner.value(uow.raw, uow.tenant, channel, plain)
    return None if owner is None else await get(uow, owner)


async def by_external_id(uow: UnitOfWork, external_id: str) -> ContactView | None:
    """Whoever has this id in another system."""
    owner = await SQL.external_id_owner.value(uow.raw, uow.tenant, external_id)
    return None if owner is None else await get(uow, owner)


async def consent_history(uow: UnitOfWork, contact_id: UUID) -> list[ConsentEventView]:
    """The proof of consent of one contact, oldest first.

    Raises:  Refused(not_found).
    """
    await get(uow, contact_id)
    return [ConsentEventView(**dict(row)) for row in await SQL.consent_events_of.many(uow.raw, uow.tenant, contact_id)]
