"""Everything about a person in one JSON file: asked for here, written by a job, fetched while it lasts.

Owns what belongs to it: contact, addresses, consent and its proof, tags, lists, do-not-contact entries, messages with
what they said and what became of them, what the person wrote and filled in, what imports changed, and what was done to
the contact.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import orjson

from outrider.base.errors import Refused
from outrider.base.ids import NIL
from outrider.contracts.actor import Actor
from outrider.data.db import Database, Role, UnitOfWork
from outrider.domain.audit.append import append
from outrider.domain.contacts import read
from outrider.domain.contacts.rows import AUDIENCE, OFFERS
from outrider.domain.messages import bounces, people
from outrider.domain.messages.people import Person
from outrider.domain.messages.rows import PEOPLE
from outrider.domain.people import told
from outrider.domain.people.files import ExportFiles, Writing
from outrider.domain.people.rows import SQL

NEWEST = UUID(int=2**128 - 1)
_AT_ONCE = 200
Progress = Callable[[int], Awaitable[None]]


class ExportView(msgspec.Struct, frozen=True):
    """An export. A completed one may be fetched until `expires_at`; one whose person was erased never again."""

    id: UUID
    kind: str
    contact_id: UUID | None
    job_id: UUID | None
    state: str
    row_count: int
    size_bytes: int | None
    sha256: str | None
    error: str | None
    created_by: str
    created_at: datetime
    finished_at: datetime | None
    expires_at: datetime | None


async def ask(uow: UnitOfWork, actor: Actor, contact_id: UUID) -> ExportView:
    """Record that a person's data is wanted; the caller enqueues the job `export_person` in the same transaction.

    Raises:  Refused(not_found).
    """
    await read.get(uow, contact_id)
    export_id = await SQL.insert_export.value(uow.raw, uow.tenant, "person", contact_id, "{}", actor.name)
    target = ("contact", str(contact_id))
    await append(uow, actor, action="contact.export", target=target, details={"export": str(export_id)})
    return await get(uow, export_id)


async def has_job(uow: UnitOfWork, export_id: UUID, job_id: UUID) -> ExportView:
    """Remember which job makes the file."""
    await SQL.export_job.run(uow.raw, uow.tenant, export_id, job_id)
    return await get(uow, export_id)


async def get(uow: UnitOfWork, export_id: UUID) -> ExportView:
    """One export.

    Raises:  Refused(not_found).
    """
    row = await SQL.export_get.one(uow.raw, uow.tenant, export_id)
    if row is None:
        raise Refused("not_found", "no such export", field="/id", status=404)
    return _view(row)


async def listed(uow: UnitOfWork, *, limit: int, before: UUID | None = None) -> list[ExportView]:
    """Exports, newest first, `limit` (1..1000) of those before `before`."""
    return [_view(row) for row in await SQL.exports_page.many(uow.raw, uow.tenant, before or NEWEST, limit)]


async def fetch(
    uow: UnitOfWork, files: ExportFiles, actor: Actor, export_id: UUID, *, is_person: bool | None = None
) -> Path:
    """The whole file of an export; who fetched it is audited.

    Takes:   is_person: what kind it must be of, where only one will do.
    Raises:  Refused(not_found; not_ready, gone, 409, with its state).
    """
    found = await get(uow, export_id)
    if is_person is not None and is_person != (found.kind == "person"):
        raise Refused("not_found", "this export has another kind of file", field="/id", status=404)
    if found.state != "completed":
        code = "not_ready" if found.state in {"waiting", "running"} else "gone"
        raise Refused(code, f"the export is {found.state}", field="/id", status=409, state=found.state)
    path = files.of(uow.tenant, export_id)
    if not path.is_file():
        raise Refused("gone", "the file is not on this machine", field="/id", status=409, state=found.state)
    await append(uow, actor, action="export.fetch", target=("export", str(export_id)))
    return path


async def failed(db: Database, tenant_id: UUID, export_id: UUID, why: str) -> None:
    """Say why there is no file."""
    async with db.uow(Role.ENGINE, tenant_id) as uow:
        await SQL.export_failed.run(uow.raw, tenant_id, export_id, why[:500])


async def write_person(db: Database, tenant_id: UUID, wanted: ExportView, writing: Writing, progress: Progress) -> int:
    """Write everything about a person. Gives the number of messages."""
    contact_id = wanted.contact_id or NIL
    async with db.uow(Role.ENGINE, tenant_id) as uow:
        head, person, whose = await _head(uow, contact_id)
    writing.write(orjson.dumps(head, default=str)[:-1] + b',"messages":[')
    count, after = 0, NIL
    while True:
        async with db.uow(Role.ENGINE, tenant_id) as uow:
            page = await people.find(uow, person, after=after)
        for start in range(0, len(page.ids), _AT_ONCE):
            async with db.uow(Role.ENGINE, tenant_id) as uow:
                ids = page.ids[start : start + _AT_ONCE]
                rows = await PEOPLE.messages_to_export.many(uow.raw, tenant_id, ids)
                responses = await told.responses(uow, ids)
            for row in rows:
                whole = _message(dict(row)) | {"responses": responses.get(row["id"], [])}
                writing.write((b"," if count else b"") + orjson.dumps(whole, default=str))
                count += 1
        await progress(count)
        if page.last is None:
            break
        after = page.last
    writing.write(b"]")
    for name, read_page in told.SECTIONS.items():
        writing.write(b"," + orjson.dumps(name) + b":[")
        comma = b""
        async for row in told.each(db, tenant_id, whose, read_page):
            writing.write(comma + orjson.dumps(row, default=str))
            comma = b","
        writing.write(b"]")
        await progress(count)
    writing.write(b"}\n")
    return count


async def _head(uow: UnitOfWork, contact_id: UUID) -> tuple[dict[str, Any], Person, told.Whose]:
    """What there is little of, and how the messages and the rest are found."""
    contact = await read.get(uow, contact_id)
    merges = [dict(row) for row in await AUDIENCE.merges_of.many(uow.raw, uow.tenant, contact_id)]
    ids = [contact_id, *(row["merged_id"] for row in merges)]
    hashes = [hashlib.sha256(each.address.encode()).digest() for each in contact.addresses]
    channels = [each.channel for each in contact.addresses]
    stands = await SQL.suppressions_about.many(uow.raw, uow.tenant, channels, hashes)
    audit = await SQL.audit_about.many(uow.raw, uow.tenant, [str(each) for each in ids])
    head = {
        "format": "outrider person 1",
        "contact": msgspec.to_builtins(contact),
        "merged_contacts": merges,
        "consent_history": msgspec.to_builtins(await read.consent_history(uow, contact_id)),
        "tags": [dict(row) for row in await AUDIENCE.tags_of.many(uow.raw, uow.tenant, contact_id)],
        "lists": [dict(row) for row in await AUDIENCE.memberships_of.many(uow.raw, uow.tenant, contact_id)],
        "lists_turned_off": [dict(row) for row in await OFFERS.refusals_of.many(uow.raw, uow.tenant, contact_id)],
        "do_not_contact": [dict(row) for row in stands],
        "soft_bounces": msgspec.to_builtins(await bounces.of_contact(uow, contact_id, limit=1000)),
        "what_was_done": [dict(row) for row in audit],
    }
    addresses = [each.address for each in contact.addresses]
    return head, Person(ids, hashes), told.Whose(ids, channels, addresses, hashes)


def _message(row: dict[str, Any]) -> dict[str, Any]:
    row["variables"] = orjson.loads(row["variables"]) if row["variables"] else None
    row["events"] = orjson.loads(row["events"])
    return row


def _view(row: Any) -> ExportView:
    facts = dict(row)
    del facts["options"]
    return ExportView(**facts)
