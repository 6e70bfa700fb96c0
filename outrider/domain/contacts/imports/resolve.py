"""Which contact each row of a batch means: one known by the address, one known by the external id, or a new one."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from outrider.data.db import UnitOfWork
from outrider.domain.contacts.imports.csv_rows import Problem
from outrider.domain.contacts.imports.people import Person
from outrider.domain.contacts.rows import IMPORTS as SQL

BY_ADDRESS, BY_EXTERNAL_ID, NEW = 1, 2, 3
"""How a contact was found, as the staging table says it."""

_MESSAGES = {
    "external_id_differs": "the contact with this address has another external id",
    "external_id_taken": "another contact has this external id",
}


class Resolved(NamedTuple):
    """A row and the contact it means."""

    person: Person
    contact_id: UUID
    state: int


class _Known(NamedTuple):
    """What the database says about the batch, kept up to date while rows are looked at."""

    owner_of_address: dict[str, UUID]
    owner_of_external: dict[str, UUID]
    external_of: dict[UUID, str | None]


async def resolve(uow: UnitOfWork, channel: str, people: list[Person]) -> tuple[list[Resolved], list[Problem]]:
    """Find or mint the contact of each row.

    Takes:   rows with different addresses, in order of lines.
    Gives:   rows with their contact, and those refused because their external id contradicts what is known. Rows with
             the same new external id are one contact.
    """
    known = await _known(uow, channel, people)
    resolved: list[Resolved] = []
    problems: list[Problem] = []
    others: list[Person] = []
    for person in people:
        owner = known.owner_of_address.get(person.address)
        code = _claim(known, owner, person.external_id)
        if code is not None:
            problems.append(Problem(person.line, "external_id", code, _MESSAGES[code], person.external_id or ""))
        elif owner is not None:
            resolved.append(Resolved(person, owner, BY_ADDRESS))
        else:
            others.append(person)
    resolved.extend(await _others(uow, known, others))
    return resolved, problems


async def _known(uow: UnitOfWork, channel: str, people: list[Person]) -> _Known:
    rows = await SQL.address_owners.many(uow.raw, uow.tenant, channel, [person.address for person in people])
    owners = {row["address"]: row["contact_id"] for row in rows}
    told = [person.external_id for person in people if person.external_id]
    contacts = await SQL.external_ids.many(uow.raw, uow.tenant, list(owners.values()), told) if told else []
    external_of = {row["id"]: row["external_id"] for row in contacts}
    return _Known(owners, {external: owner for owner, external in external_of.items() if external}, external_of)


def _claim(known: _Known, owner: UUID | None, external_id: str | None) -> str | None:
    """Why the owner of an address may not have this external id, or None, and then it has it from here on."""
    if owner is None or external_id is None:
        return None
    if (known.external_of.get(owner) or external_id) != external_id:
        return "external_id_differs"
    if known.owner_of_external.setdefault(external_id, owner) != owner:
        return "external_id_taken"
    known.external_of[owner] = external_id
    return None


async def _others(uow: UnitOfWork, known: _Known, others: list[Person]) -> list[Resolved]:
    """Rows with addresses that nobody has: found by external id, or new."""
    fresh = iter([row["id"] for row in await SQL.mint_ids.many(uow.raw, len(others))] if others else [])
    made: set[UUID] = set()
    resolved = []
    for person in others:
        contact_id = known.owner_of_external.get(person.external_id) if person.external_id else None
        if contact_id is None:
            contact_id = next(fresh)
            made.add(contact_id)
            if person.external_id:
                known.owner_of_external[person.external_id] = contact_id
        resolved.append(Resolved(person, contact_id, NEW if contact_id in made else BY_EXTERNAL_ID))
    return resolved
