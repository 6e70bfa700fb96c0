"""Which contact each row of a batch means: one known by the address, one known by the external id, or a new one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID

import asyncpg
import orjson

from outrider.data.db import UnitOfWork
from outrider.domain.contacts.imports.csv_rows import Problem
from outrider.domain.contacts.imports.drafts import Asked, Consent, Draft, overlay
from outrider.domain.contacts.imports.people import Person
from outrider.domain.contacts.rows import MERGE as SQL

_MESSAGES = {
    "external_id_differs": "the contact with this address has another external id",
    "external_id_taken": "another contact has this external id",
}


class Place(NamedTuple):
    """Whose batch it is, and what holds for all of its rows. A dry run also looks at what it has met itself."""

    import_id: UUID
    asked: Asked
    is_dry_run: bool


class Resolved(NamedTuple):
    """A row, the contact it means, and whether that has the address already."""

    person: Person
    draft: Draft
    has_address: bool


@dataclass(slots=True)
class _Known:
    """What is known about the batch, kept up to date while rows are looked at."""

    drafts: dict[UUID, Draft] = field(default_factory=dict)
    owner_of: dict[str, UUID] = field(default_factory=dict)
    holder_of: dict[str, UUID] = field(default_factory=dict)


async def resolve(uow: UnitOfWork, place: Place, people: list[Person]) -> tuple[list[Resolved], list[Problem]]:
    """Find or mint the contact of each row, with what is known of it.

    Takes:   rows with different addresses, in order of lines.
    Gives:   rows with their contact in order of lines, and those refused because their external id contradicts what is
             known. Rows with the same new external id are one contact.
    """
    known = await _look(uow, place, people)
    resolved: list[Resolved] = []
    problems: list[Problem] = []
    others: list[Person] = []
    for person in people:
        owner = known.owner_of.get(person.address)
        if owner is None:
            others.append(person)
            continue
        code = _claim(known, owner, person.external_id) if person.external_id else None
        if code is None:
            resolved.append(Resolved(person, known.drafts[owner], has_address=True))
        else:
            problems.append(Problem(person.line, "external_id", code, _MESSAGES[code], person.external_id or ""))
    if others:
        fresh = iter([row["id"] for row in await SQL.mint_ids.many(uow.raw, len(others))])
        resolved.extend(_other(known, person, fresh) for person in others)
        resolved.sort(key=lambda row: row.person.line)
    await _hold(uow, place, people, [draft for draft in known.drafts.values() if not draft.is_made])
    return resolved, problems


async def _look(uow: UnitOfWork, place: Place, people: list[Person]) -> _Known:
    known = _Known()
    addresses = [person.address for person in people]
    for row in await SQL.owners.many(uow.raw, uow.tenant, place.asked.channel, addresses):
        _know(known, row, row["address"])
        known.owner_of[row["address"]] = row["id"]
    if told := [p.external_id for p in people if p.external_id and p.external_id not in known.holder_of]:
        for row in await SQL.holders.many(uow.raw, uow.tenant, told):
            _know(known, row, "")
    if place.is_dry_run:
        await _look_at_own(uow, place, known, people)
    return known


def _know(known: _Known, row: asyncpg.Record, address: str) -> None:
    if row["id"] in known.drafts:
        return
    fields = {name: row[name] for name in ("external_id", "name", "timezone", "locale")}
    attributes = orjson.loads(row["attributes"])
    known.drafts[row["id"]] = Draft(row["id"], 0, address, fields, attributes, row["updated_at"])
    if row["external_id"]:
        known.holder_of[row["external_id"]] = row["id"]


async def _look_at_own(uow: UnitOfWork, place: Place, known: _Known, people: list[Person]) -> None:
    """What this dry run would have stored in earlier batches, as if it had."""
    keys = [f"a:{p.address}" for p in people if p.address not in known.owner_of]
    keys += [f"e:{p.external_id}" for p in people if p.external_id and p.external_id not in known.holder_of]
    met = {row["key"]: row["contact_id"] for row in await SQL.keys_met.many(uow.raw, uow.tenant, place.import_id, keys)}
    missing = {contact_id for contact_id in met.values() if contact_id not in known.drafts}
    ids = [*known.drafts, *missing]
    for row in await SQL.changes_of.many(uow.raw, uow.tenant, place.import_id, ids):
        draft = known.drafts.get(row["contact_id"])
        if draft is None:
            draft = known.drafts[row["contact_id"]] = Draft(row["contact_id"], row["line"], row["address"])
        draft.is_new = row["is_new"]
        overlay(draft, orjson.loads(row["after"]), place.asked)
        if draft.fields["external_id"]:
            known.holder_of[draft.fields["external_id"]] = draft.id
    await _complete(uow, known, missing)
    for key, contact_id in met.items():
        if key.startswith("a:"):
            known.owner_of[key[2:]] = contact_id


async def _complete(uow: UnitOfWork, known: _Known, ids: Iterable[UUID]) -> None:
    """Known contacts that a dry run gave another address: beneath what it would change, what the database says."""
    wanted = [contact_id for contact_id in ids if not known.drafts[contact_id].is_new]
    for row in await SQL.contacts_now.many(uow.raw, uow.tenant, wanted) if wanted else ():
        draft = known.drafts[row["id"]]
        for name in draft.fields:
            draft.fields[name] = draft.fields[name] or row[name]
        draft.attributes = orjson.loads(row["attributes"]) | draft.attributes
        draft.updated_at = row["updated_at"]


def _claim(known: _Known, owner: UUID, external_id: str) -> str | None:
    """Why the owner of an address may not have this external id, or None, and then it has it from here on."""
    if (known.drafts[owner].fields["external_id"] or external_id) != external_id:
        return "external_id_differs"
    if known.holder_of.setdefault(external_id, owner) != owner:
        return "external_id_taken"
    return None


def _other(known: _Known, person: Person, fresh: Iterator[UUID]) -> Resolved:
    """A row with an address that nobody has: its contact is found by external id, or new."""
    holder = known.holder_of.get(person.external_id) if person.external_id else None
    if holder is None:
        holder = next(fresh)
        known.drafts[holder] = Draft(holder, person.line, person.address, is_new=True, is_made=True)
        if person.external_id:
            known.holder_of[person.external_id] = holder
    return Resolved(person, known.drafts[holder], has_address=False)


async def _hold(uow: UnitOfWork, place: Place, people: list[Person], drafts: list[Draft]) -> None:
    """Tags, membership and consent of those who are known, as far as the batch concerns them."""
    asked, by_id = place.asked, {draft.id: draft for draft in drafts}
    ids = list(by_id)
    if ids and any(person.tags for person in people):
        for row in await SQL.tags_held.many(uow.raw, uow.tenant, ids):
            by_id[row["contact_id"]].tags.add(row["tag"])
    if ids and asked.list_id is not None:
        for row in await SQL.members_among.many(uow.raw, uow.tenant, asked.list_id, ids):
            by_id[row["contact_id"]].is_member = True
    if ids and any(person.consent for person in people):
        for row in await SQL.consents_held.many(uow.raw, uow.tenant, ids, asked.channel, asked.purpose):
            draft = by_id[row["contact_id"]]
            draft.consent = draft.consent or Consent(row["status"], row["at"], row["source"])  # a dry run's is later
