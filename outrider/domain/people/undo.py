"""Undoing an import: page by page, each contact put back as far as nobody has changed it since.

Owns order and progress; `domain.contacts.imports.restore` decides. Each page is one transaction with its outcomes, so
that it goes on where it was, whatever is killed. What is left alone keeps its reasons with the import's changes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import orjson

from outrider.base import failpoint
from outrider.base.errors import Refused
from outrider.base.ids import NIL, first_id_at
from outrider.contracts.actor import Actor
from outrider.data.db import Database, Role, UnitOfWork
from outrider.domain.audit.append import append
from outrider.domain.contacts.imports import control
from outrider.domain.contacts.imports.control import ImportView
from outrider.domain.contacts.imports.drafts import FIELDS
from outrider.domain.contacts.imports.restore import Now, Step, step_of
from outrider.domain.contacts.rows import MERGE
from outrider.domain.contacts.rows import UNDO as SQL
from outrider.domain.limits.reasons import clean_reason
from outrider.domain.messages.rows import PEOPLE

PAGE = 500
Hold = Callable[[UnitOfWork], Awaitable[None]]
Told = Callable[[int], Awaitable[None]]


class Undoable(msgspec.Struct, frozen=True):
    """What undoing an import would look at: contacts that it made, and that it changed. What was used since stays."""

    new_count: int
    known_count: int

    @property
    def count(self) -> int:
        """Both."""
        return self.new_count + self.known_count


async def preview(uow: UnitOfWork, import_id: UUID) -> Undoable:
    """How many contacts undoing an import would look at.

    Raises:  Refused(not_found; not_undoable, 409) for a dry run, one that is running, or what was kept too long ago.
    """
    _check(await control.get(uow, import_id))
    row = await SQL.undo_counts.one(uow.raw, uow.tenant, import_id)
    found = Undoable(row["new_count"], row["known_count"]) if row is not None else Undoable(0, 0)
    if not found.count:
        message = "nothing is left to be undone: it changed nothing, was undone, or its changes are past retention"
        raise Refused("not_undoable", message, field="/id", status=409)
    return found


async def begin(uow: UnitOfWork, actor: Actor, import_id: UUID, *, count: int, reason: str) -> Undoable:
    """Record that an import is to be undone; the caller enqueues the job `undo_import` and says `has_job`.

    Takes:   count: what `preview` said; it must still be so.
    Raises:  as `preview`; Refused(count_changed, 409); Refused(undo_running, 409).
    """
    found = await preview(uow, import_id)
    if found.count != count:
        message = f"it is {found.count} contacts now, not {count}; look again"
        raise Refused("count_changed", message, field="/count", status=409, count=found.count)
    if await SQL.undo_begin.value(uow.raw, uow.tenant, import_id) is None:
        raise Refused("undo_running", "it is being undone already", field="/id", status=409)
    details = {"new": found.new_count, "known": found.known_count}
    target = ("import", str(import_id))
    await append(uow, actor, action="import.undo", target=target, reason=clean_reason(reason), details=details)
    return found


async def has_job(uow: UnitOfWork, import_id: UUID, job_id: UUID) -> ImportView:
    """Remember which job undoes it."""
    await SQL.undo_job.run(uow.raw, uow.tenant, import_id, job_id)
    return await control.get(uow, import_id)


async def end(uow: UnitOfWork, import_id: UUID, state: str) -> None:
    """Record that undoing was stopped, or failed; it can be begun again."""
    await SQL.undo_end.value(uow.raw, uow.tenant, import_id, state)


async def run(db: Database, tenant_id: UUID, import_id: UUID, actor: Actor, *, hold: Hold, told: Told) -> ImportView:
    """Undo page by page to the end.

    Takes:   hold  called first in each transaction, raises when another run has taken over; told  how many are done
    Gives:   the import with its counts; its undo may have been cancelled meanwhile.
    """
    after: UUID | None = NIL
    done = 0
    while after is not None:
        async with db.uow(Role.ENGINE, tenant_id) as uow:
            await hold(uow)
            after, count = await _page(uow, import_id, after)
        if failpoint.ARMED:
            failpoint.hit("undo.page")
        done += count
        await told(done)
    async with db.uow(Role.ENGINE, tenant_id) as uow:
        view = await control.get(uow, import_id)
        if view.undo_state == "running":
            await SQL.undo_end.value(uow.raw, tenant_id, import_id, "completed")
            counts = {name: getattr(view, f"{name}_count") for name in ("restored", "deleted", "left")}
            await append(uow, actor, action="import.undone", target=("import", str(import_id)), details=counts)
        return await control.get(uow, import_id)


async def _page(uow: UnitOfWork, import_id: UUID, after: UUID) -> tuple[UUID | None, int]:
    """Undo a page. Gives where it ended (None: there was nothing more) and how many contacts it had."""
    if await SQL.undo_lock.value(uow.raw, uow.tenant, import_id) != "running":
        return None, 0
    await MERGE.plan_by_index.run(uow.raw)
    rows = await SQL.undo_page.many(uow.raw, uow.tenant, import_id, after, PAGE)
    if not rows:
        return None, 0
    now = await _now(uow, rows)
    steps = [
        step_of(
            row["contact_id"], orjson.loads(row["before"]), orjson.loads(row["after"]), row["at"],
            is_new=row["is_new"], now=now.get(row["contact_id"]),
        )
        for row in rows
    ]  # fmt: skip
    await _delete(uow, [step.contact_id for step in steps if step.delete])
    await _put_back(uow, import_id, [step for step in steps if step.did])
    outcomes = [step.outcome for step in steps]
    reasons = [orjson.dumps(step.reasons).decode() for step in steps]
    await SQL.outcomes.run(uow.raw, uow.tenant, import_id, [step.contact_id for step in steps], outcomes, reasons)
    counts = [sum(one == outcome for one in outcomes) for outcome in ("restored", "deleted")]
    await SQL.undo_advance.run(uow.raw, uow.tenant, import_id, *counts, len(steps) - sum(counts))
    return rows[-1]["contact_id"], len(rows)


async def _now(uow: UnitOfWork, rows: list[asyncpg.Record]) -> dict[UUID, Now]:
    """The contacts of a page as they are, held, with everything that could have come of them."""
    raw, tenant = uow.raw, uow.tenant
    ids = [row["contact_id"] for row in rows]
    found = {
        row["id"]: Now({name: row[name] for name in FIELDS}, orjson.loads(row["attributes"]))
        for row in await MERGE.lock_contacts.many(raw, tenant, ids)
    }
    ids = list(found)
    for row in await SQL.addresses_now.many(raw, tenant, ids):
        found[row["contact_id"]].addresses.add(f"{row['channel']}:{row['address']}")
    for row in await SQL.tags_now.many(raw, tenant, ids):
        found[row["contact_id"]].tags[row["tag"]] = row["added_at"]
    for row in await SQL.lists_now.many(raw, tenant, ids):
        found[row["contact_id"]].lists[str(row["list_id"])] = row["added_at"]
    for row in await SQL.consents_now.many(raw, tenant, ids):
        found[row["contact_id"]].consents[row["channel"], row["purpose"]] = dict(row)
    for row in await SQL.said_last.many(raw, tenant, ids):
        found[row["contact_id"]].said_at = row["at"]
    for row in await SQL.merged_among.many(raw, tenant, ids):
        found[row["contact_id"]].is_merged = True
    for row in await SQL.refusing_among.many(raw, tenant, ids):
        found[row["contact_id"]].has_refused = True
    await _reached(uow, found, min(row["at"] for row in rows))
    return found


async def _reached(uow: UnitOfWork, found: dict[UUID, Now], since: Any) -> None:
    """Which of their addresses were written to since, or must not be contacted."""
    owner_of = {address: now for now in found.values() for address in now.addresses}
    pairs = [address.partition(":")[::2] for address in owner_of]
    channels, plain = [channel for channel, _ in pairs], [address for _, address in pairs]
    for row in await SQL.suppressed_last.many(uow.raw, uow.tenant, channels, plain):
        address = f"{row['channel']}:{row['address']}"
        owner_of[address].suppressed[address] = row["created_at"]
    written = await PEOPLE.written_to.many(uow.raw, uow.tenant, plain, first_id_at(since))
    reached = {row["address"] for row in written}
    for address, now in owner_of.items():
        if address.partition(":")[2] in reached:
            now.written_to.add(address)


async def _delete(uow: UnitOfWork, ids: list[UUID]) -> None:
    if ids:
        await SQL.drop_consents_of.run(uow.raw, uow.tenant, ids)
        await SQL.drop_proof_of.run(uow.raw, uow.tenant, ids)
        await SQL.drop_contacts.run(uow.raw, uow.tenant, ids)


async def _put_back(uow: UnitOfWork, import_id: UUID, steps: list[Step]) -> None:
    raw, tenant = uow.raw, uow.tenant
    changed = [(step.contact_id, step.fields, step.attributes) for step in steps if step.fields is not None]
    if changed:
        external_ids, names, zones, locales = ([fields[name] for _, fields, _ in changed] for name in FIELDS)
        attributes = [orjson.dumps(each).decode() for _, _, each in changed]
        ids = [contact_id for contact_id, _, _ in changed]
        await MERGE.change_contacts.run(raw, tenant, ids, external_ids, names, attributes, zones, locales)
    if taken := [(step.contact_id, *address.partition(":")[::2]) for step in steps for address in step.addresses]:
        await SQL.take_addresses.run(raw, tenant, *map(list, zip(*taken, strict=True)))
    if tags := [(step.contact_id, tag) for step in steps for tag in step.tags]:
        await SQL.take_tags.run(raw, tenant, *map(list, zip(*tags, strict=True)))
    if lists := [(step.contact_id, UUID(one)) for step in steps for one in step.lists]:
        await SQL.take_memberships.run(raw, tenant, *map(list, zip(*lists, strict=True)))
    if consents := [(step.contact_id, *step.consent) for step in steps if step.consent is not None]:
        source = f"undo of import {import_id}"
        await SQL.put_back_consents.run(raw, tenant, *map(list, zip(*consents, strict=True)), source)


def _check(view: ImportView) -> None:
    if view.is_dry_run or view.kind != "contacts":
        message = "a dry run changed nothing" if view.is_dry_run else f"imports of {view.kind} stay"
        raise Refused("not_undoable", message, field="/id", status=409)
    if view.state == "running":
        raise Refused("import_running", "the import is running; cancel it first", field="/id", status=409)
