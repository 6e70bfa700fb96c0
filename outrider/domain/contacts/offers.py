"""Lists on offer: what people may turn on and off themselves, and what they turned off.

Owns the rule that a list somebody turned off is put on again by nobody but them: not by people of the tenant, not by an
import, not by merging contacts. The gate `list_choice` stops what was queued before.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

import msgspec

from outrider.base.errors import Refused
from outrider.contracts.actor import Actor
from outrider.data.db import UnitOfWork
from outrider.domain.audit.append import append
from outrider.domain.contacts import values
from outrider.domain.contacts.rows import OFFERS, SQL

LONGEST_TITLE = 120
LONGEST_DESCRIPTION = 500
MOST_OFFERS = 100
_MOST_PLACE = 10_000


class OfferIn(msgspec.Struct, forbid_unknown_fields=True):
    """What people read about a list; lists with a lower `place` stand first."""

    title: str
    description: str = ""
    place: int = 0


class OfferView(msgspec.Struct, frozen=True):
    """A list on offer: its public title and description beside its own name."""

    list_id: UUID
    name: str
    title: str
    description: str
    place: int
    offered_by: str
    offered_at: datetime


class Choice(msgspec.Struct, frozen=True):
    """A list on offer and whether somebody gets it."""

    list_id: UUID
    title: str
    description: str
    is_on: bool


async def offer(uow: UnitOfWork, actor: Actor, list_id: UUID, offered: OfferIn) -> OfferView:
    """Offer a list publicly, or say something else about it.

    Raises:  Refused(not_found; required, field_too_long, control_character, out_of_range, too_many).
    """
    title = values.check_label(offered.title, field="/title")
    if len(title) > LONGEST_TITLE:
        raise Refused("field_too_long", f"must have at most {LONGEST_TITLE} characters", field="/title")
    description = check_text(offered.description, LONGEST_DESCRIPTION, "/description")
    if not 0 <= offered.place <= _MOST_PLACE:
        raise Refused("out_of_range", f"must be 0 to {_MOST_PLACE}", field="/place")
    known = await listed(uow)
    if len(known) >= MOST_OFFERS and list_id not in {each.list_id for each in known}:
        raise Refused("too_many", f"at most {MOST_OFFERS} lists are on offer", field="/id", status=409)
    if (
        await OFFERS.offer_keep.value(uow.raw, uow.tenant, list_id, title, description, offered.place, actor.name)
        is None
    ):
        raise Refused("not_found", "no such list", field="/id", status=404)
    await append(uow, actor, action="list.offer", target=("list", str(list_id)), details={"title": title})
    return (await listed(uow, [list_id]))[0]


async def withdraw(uow: UnitOfWork, actor: Actor, list_id: UUID) -> None:
    """Offer a list no more: it leaves the pages and the forms; who is on it stays.

    Raises:  Refused(not_found).
    """
    title = await OFFERS.offer_withdraw.value(uow.raw, uow.tenant, list_id)
    if title is None:
        raise Refused("not_found", "this list is not on offer", field="/id", status=404)
    await append(uow, actor, action="list.withdraw_offer", target=("list", str(list_id)), details={"title": title})


async def listed(uow: UnitOfWork, among: Collection[UUID] | None = None) -> list[OfferView]:
    """The lists on offer in their public order, or those of them that are named."""
    rows = await OFFERS.offers.many(uow.raw, uow.tenant, None if among is None else list(among))
    return [OfferView(**dict(row)) for row in rows]


async def choices(uow: UnitOfWork, contact_id: UUID | None) -> list[Choice]:
    """What a person may turn on and off; without a contact nothing is on."""
    return [Choice(**dict(row)) for row in await OFFERS.offers_of_contact.many(uow.raw, uow.tenant, contact_id)]


async def turn_off(uow: UnitOfWork, contact_id: UUID, list_ids: Collection[UUID], *, source: str) -> set[UUID]:
    """A person wants some lists no more: they leave them, and what is queued for them is stopped by the gate.

    Gives:   the lists of which that is new.
    """
    wanted = sorted(list_ids)
    await SQL.lock_contact.one(uow.raw, uow.tenant, contact_id)  # whoever puts them on a list now is waited for
    refused = await OFFERS.refuse_lists.many(uow.raw, uow.tenant, contact_id, wanted, source)
    left = await OFFERS.leave_lists.many(uow.raw, uow.tenant, contact_id, wanted)
    return {row["list_id"] for row in (*refused, *left)}


async def turn_on(uow: UnitOfWork, contact_id: UUID, list_ids: Collection[UUID]) -> set[UUID]:
    """A person wants lists that are on offer; others are passed over. Gives those that are new."""
    known = [each.list_id for each in await listed(uow, list_ids)]
    await OFFERS.allow_lists.run(uow.raw, uow.tenant, contact_id, known)
    return {row["list_id"] for row in await OFFERS.join_lists.many(uow.raw, uow.tenant, contact_id, known)}


async def memberships(uow: UnitOfWork, contact_id: UUID) -> set[UUID]:
    """Every list a contact is on, on offer or not."""
    return {row["list_id"] for row in await OFFERS.lists_of.many(uow.raw, uow.tenant, contact_id)}


async def refused_among(uow: UnitOfWork, list_id: UUID, contact_ids: Collection[UUID]) -> set[UUID]:
    """Which contacts turned a list off."""
    rows = await OFFERS.refusals_among.many(uow.raw, uow.tenant, list_id, list(contact_ids))
    return {row["contact_id"] for row in rows}


def check_text(text: str, longest: int, field: str) -> str:
    """A text that people read on a page: lines, no control characters."""
    plain = values.check_attribute_text(text.replace("\r\n", "\n").strip(), field=field)
    if len(plain) > longest:
        raise Refused("field_too_long", f"must have at most {longest} characters", field=field)
    return plain
