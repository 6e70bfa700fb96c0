"""Erasing a person: what the control plane knows goes at once, what the ledger says of them by a job [F99].

Owns the order: suppressed by hash and withdrawn first, so that nothing more leaves the house; then everything personal
is taken from the ledger, page by page, and once more from what was written meanwhile; then the files.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import orjson

from outrider.base import failpoint
from outrider.base.errors import Refused
from outrider.base.ids import NIL, first_id_at
from outrider.base.settings import Settings
from outrider.contracts.actor import Actor
from outrider.data.db import Database, Role, UnitOfWork
from outrider.domain.audit.append import append
from outrider.domain.callbacks.rows import SQL as CALLBACKS
from outrider.domain.contacts.forget import forget
from outrider.domain.limits.reasons import clean_reason
from outrider.domain.messages import people
from outrider.domain.messages.people import Person
from outrider.domain.people.export import NEWEST
from outrider.domain.people.files import ExportFiles
from outrider.domain.people.rows import SQL
from outrider.domain.segments.rows import SQL as SEGMENTS
from outrider.domain.senders.rows import SQL as SENDERS
from outrider.domain.signup import ask as signups
from outrider.domain.templates.rows import SQL as TEMPLATES

MEANWHILE = timedelta(minutes=15)
"""What was written while the ledger was walked is looked at once more, from so long before the erasure began."""

WITHIN_MS = 900_000
"""Looking through the whole ledger for others who got a content may take so long."""

Progress = Callable[[int], Awaitable[None]]


class ErasureView(msgspec.Struct, frozen=True):
    """An erasure: whose ids it was, never who; `message_count` messages were made anonymous."""

    id: UUID
    contact_ids: list[UUID]
    state: str
    job_id: UUID | None
    message_count: int
    file_count: int
    reason: str
    created_by: str
    created_at: datetime
    finished_at: datetime | None


async def begin(uow: UnitOfWork, actor: Actor, contact_id: UUID, *, reason: str) -> ErasureView:
    """Delete a contact, suppress its addresses by hash, withdraw what waits for it (engine role).

    Gives:   the erasure; the caller enqueues the job `erase_person` in the same transaction.
    Raises:  Refused(not_found).
    """
    gone = await forget(uow, actor, contact_id, source="erasure")
    await signups.forget(uow, [digest for _, digest in gone.hashes])
    withdrawn = await people.withdraw(uow, [address for _, address in gone.addresses])
    await SENDERS.forget_numbers.run(uow.raw, uow.tenant, [address for _, address in gone.addresses])
    await CALLBACKS.forget_inbound.run(
        uow.raw, uow.tenant, [address for _, address in gone.addresses], gone.contact_ids
    )
    await SQL.erase_exports.many(uow.raw, uow.tenant, gone.contact_ids)
    ids = orjson.dumps([str(each) for each in gone.contact_ids]).decode()
    hashes = orjson.dumps([{"channel": channel, "sha256": digest.hex()} for channel, digest in gone.hashes]).decode()
    why = clean_reason(reason)
    erasure_id = await SQL.insert_erasure.value(uow.raw, uow.tenant, ids, hashes, why, actor.name)
    details = {"erasure": str(erasure_id), "addresses": len(gone.addresses), "withdrawn": withdrawn}
    target = ("contact", str(contact_id))
    await append(uow, actor, action="contact.erase", target=target, reason=why, details=details)
    return await get(uow, erasure_id)


async def has_job(uow: UnitOfWork, erasure_id: UUID, job_id: UUID) -> ErasureView:
    """Remember which job walks the ledger."""
    await SQL.erasure_job.run(uow.raw, uow.tenant, erasure_id, job_id)
    return await get(uow, erasure_id)


async def get(uow: UnitOfWork, erasure_id: UUID) -> ErasureView:
    """One erasure.

    Raises:  Refused(not_found).
    """
    return _view(await _row(uow, erasure_id))


async def listed(uow: UnitOfWork, *, limit: int, before: UUID | None = None) -> list[ErasureView]:
    """Erasures, newest first, `limit` (1..1000) of those before `before`."""
    return [_view(row) for row in await SQL.erasures_page.many(uow.raw, uow.tenant, before or NEWEST, limit)]


async def finish(db: Database, settings: Settings, tenant_id: UUID, erasure_id: UUID, progress: Progress) -> int:
    """Take the person from the ledger, the contents and the files. Repeating it is harmless, also after a restore.

    Gives:   how many messages were made anonymous in all.
    Raises:  Unavailable while a message to them is being sent: try again.
    """
    async with db.uow(Role.ENGINE, tenant_id) as uow:
        row = await _row(uow, erasure_id)
    person = Person(
        [UUID(each) for each in orjson.loads(row["contact_ids"])],
        [bytes.fromhex(each["sha256"]) for each in orjson.loads(row["addresses"])],
    )
    begun_at = (row["walked_to"] if row["state"] == "running" else None) or NIL
    for after in (begun_at, first_id_at(row["created_at"] - MEANWHILE)):
        await _walk(db, tenant_id, erasure_id, person, after, progress)
    async with db.uow(Role.ENGINE, tenant_id) as uow:
        await people.blank_chosen(uow, person.contact_ids)
        await signups.forget(uow, person.address_hashes)
        exports = [each["id"] for each in await SQL.exports_erased.many(uow.raw, tenant_id)]
    removed = await asyncio.to_thread(ExportFiles(settings.data_dir).remove, tenant_id, exports)
    async with db.uow(Role.ENGINE, tenant_id) as uow:
        await SQL.erasure_done.run(uow.raw, tenant_id, erasure_id, removed)
        return (await get(uow, erasure_id)).message_count


async def _walk(
    db: Database, tenant_id: UUID, erasure_id: UUID, person: Person, after: UUID, progress: Progress
) -> None:
    """Blank the person's messages from one id to the newest, each page with its contents and checkpoint."""
    while True:
        async with db.uow(Role.ENGINE, tenant_id) as uow:
            page = await people.find(uow, person, after=after)
            await _forget_contents(uow, await people.blank(uow, page.ids))
            if page.last is not None:
                await SQL.erasure_step.run(uow.raw, tenant_id, erasure_id, page.last, len(page.ids))
        if failpoint.ARMED:
            failpoint.hit("erase.page")
        if page.last is None:
            return
        after = page.last
        await progress(len(page.ids))


async def _forget_contents(uow: UnitOfWork, content_ids: set[UUID]) -> None:
    """Delete what was written for this person alone; templates and what others got as well stay."""
    rows = await TEMPLATES.inline_contents.many(uow.raw, uow.tenant, list(content_ids)) if content_ids else []
    if rows:
        await SEGMENTS.plan_for_values.run(uow.raw, str(WITHIN_MS))
        theirs = await people.only_theirs(uow, {row["id"] for row in rows})
        await TEMPLATES.delete_contents.run(uow.raw, uow.tenant, theirs)


async def _row(uow: UnitOfWork, erasure_id: UUID) -> Any:
    row = await SQL.erasure_get.one(uow.raw, uow.tenant, erasure_id)
    if row is None:
        raise Refused("not_found", "no such erasure", field="/id", status=404)
    return row


def _view(row: Any) -> ErasureView:
    facts = dict(row)
    del facts["addresses"], facts["walked_to"]
    ids = [UUID(each) for each in orjson.loads(facts.pop("contact_ids"))]
    return ErasureView(contact_ids=ids, **facts)
