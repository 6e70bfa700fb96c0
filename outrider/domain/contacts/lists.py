"""Lists: named sets of contacts that campaigns are sent to."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import asyncpg
import msgspec

from outrider.base.errors import Refused
from outrider.base.ids import NIL
from outrider.contracts.actor import Actor
from outrider.data.db import UnitOfWork
from outrider.domain.audit.append import append
from outrider.domain.contacts import offers, values
from outrider.domain.contacts.rows import SQL
from outrider.domain.contacts.views import ListView, MemberView

MOST_AT_ONCE = 1_000


class MembersChanged(msgspec.Struct, frozen=True):
    """What became of the contacts named: changed, already so, unknown, or left out because they turned the list off."""

    changed_count: int
    unchanged_count: int
    unknown: list[UUID]
    turned_off_count: int = 0


async def create(uow: UnitOfWork, actor: Actor, name: str) -> ListView:
    """Make a list.

    Raises:  Refused(name_taken, 409).
    """
    plain = values.check_label(name)
    row = await SQL.insert_list.one(uow.raw, uow.tenant, plain)
    if row is None:
        raise Refused("name_taken", "another list has this name", field="/name", status=409)
    await append(uow, actor, action="list.create", target=("list", str(row["id"])), details={"name": plain})
    return await get(uow, row["id"])


async def rename(uow: UnitOfWork, actor: Actor, list_id: UUID, name: str) -> ListView:
    """Give a list another name.

    Raises:  Refused(not_found; name_taken, 409).
    """
    old = await get(uow, list_id)
    plain = values.check_label(name)
    try:
        renamed = await SQL.rename_list.value(uow.raw, uow.tenant, list_id, plain)
    except asyncpg.UniqueViolationError:  # somebody took it since we looked
        renamed = None
    if renamed is None:
        raise Refused("name_taken", "another list has this name", field="/name", status=409)
    details = {"name": plain, "was": old.name}
    await append(uow, actor, action="list.rename", target=("list", str(list_id)), details=details)
    return await get(uow, list_id)


async def delete(uow: UnitOfWork, actor: Actor, list_id: UUID) -> None:
    """Delete a list; its contacts stay.

    Raises:  Refused(not_found; list_in_use, 409) while a campaign names it.
    """
    try:
        name = await SQL.delete_list.value(uow.raw, uow.tenant, list_id)
    except asyncpg.ForeignKeyViolationError:
        raise Refused("list_in_use", "a campaign names this list", field="/id", status=409) from None
    if name is None:
        raise Refused("not_found", "no such list", field="/id", status=404)
    await append(uow, actor, action="list.delete", target=("list", str(list_id)), details={"name": name})


async def get(uow: UnitOfWork, list_id: UUID, *, field: str = "/id") -> ListView:
    """One list.

    Raises:  Refused(not_found).
    """
    row = await SQL.list_get.one(uow.raw, uow.tenant, list_id)
    if row is None:
        raise Refused("not_found", "no such list", field=field, status=404)
    return ListView(**dict(row))


async def listed(uow: UnitOfWork, *, limit: int, after: UUID | None = None) -> list[ListView]:
    """Lists in the order they were made, `limit` (1..1000) of those after `after`."""
    return [ListView(**dict(row)) for row in await SQL.lists_page.many(uow.raw, uow.tenant, after or NIL, limit)]


async def add_members(uow: UnitOfWork, actor: Actor, list_id: UUID, contact_ids: Sequence[UUID]) -> MembersChanged:
    """Put up to 1,000 contacts on a list. Whoever turned it off in the preference centre stays off.

    Gives:   how many are new on it, how many were on it, which do not exist, and how many turned it off.
    """
    wanted = await _wanted(uow, list_id, contact_ids)
    known = {row["id"] for row in await SQL.known_contacts.many(uow.raw, uow.tenant, wanted)}
    added = await SQL.add_members.many(uow.raw, uow.tenant, list_id, wanted)
    off = len(await offers.refused_among(uow, list_id, wanted))
    return await _changed(uow, actor, "list.add_members", list_id, wanted, known, len(added), off)


async def remove_members(uow: UnitOfWork, actor: Actor, list_id: UUID, contact_ids: Sequence[UUID]) -> MembersChanged:
    """Take up to 1,000 contacts off a list; what a campaign has queued for them already is not withdrawn."""
    wanted = await _wanted(uow, list_id, contact_ids)
    known = {row["id"] for row in await SQL.known_contacts.many(uow.raw, uow.tenant, wanted)}
    removed = await SQL.remove_members.many(uow.raw, uow.tenant, list_id, wanted)
    return await _changed(uow, actor, "list.remove_members", list_id, wanted, known, len(removed))


async def members(uow: UnitOfWork, list_id: UUID, *, limit: int, after: UUID | None = None) -> list[MemberView]:
    """Members of a list by contact id, `limit` (1..1000) of those after `after`.

    Raises:  Refused(not_found).
    """
    await get(uow, list_id)
    rows = await SQL.members_page.many(uow.raw, uow.tenant, list_id, after or NIL, limit)
    return [MemberView(**dict(row)) for row in rows]


async def _wanted(uow: UnitOfWork, list_id: UUID, contact_ids: Sequence[UUID]) -> list[UUID]:
    if not 1 <= len(contact_ids) <= MOST_AT_ONCE:
        raise Refused("invalid_count", f"must name 1 to {MOST_AT_ONCE} contacts", field="/contact_ids")
    await get(uow, list_id)
    return sorted(set(contact_ids))  # one order for every transaction: no deadlocks


async def _changed(
    uow: UnitOfWork,
    actor: Actor,
    action: str,
    list_id: UUID,
    wanted: list[UUID],
    known: set[UUID],
    changed: int,
    turned_off: int = 0,
) -> MembersChanged:
    if changed:
        await append(uow, actor, action=action, target=("list", str(list_id)), details={"count": changed})
    unknown = [one for one in wanted if one not in known]
    return MembersChanged(changed, len(known) - changed - turned_off, unknown, turned_off)
