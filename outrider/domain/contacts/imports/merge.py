"""Storing one batch of an import of contacts in one transaction: what is known is read, what differs written and kept.

Owns the order of the statements; a batch is stored once whatever is killed, because the checkpoint moves with it. Rows
that say nothing new write nothing. A dry run does the same up to the writing.
"""

from __future__ import annotations

from collections import Counter
from typing import Any
from uuid import UUID

import orjson

from outrider.base import failpoint
from outrider.base.errors import Refused
from outrider.data.db import UnitOfWork
from outrider.domain.contacts.imports import moving
from outrider.domain.contacts.imports.batches import Batch, Counts, Overtaken
from outrider.domain.contacts.imports.control import Plan
from outrider.domain.contacts.imports.csv_rows import Problem, echo
from outrider.domain.contacts.imports.drafts import FIELDS, Asked, Draft, joined
from outrider.domain.contacts.imports.resolve import Place, Resolved, resolve
from outrider.domain.contacts.rows import IMPORTS
from outrider.domain.contacts.rows import MERGE as SQL

MOST_ERRORS = 10_000
"""Refused rows kept with their reasons per import; the others are counted."""


async def store(uow: UnitOfWork, import_id: UUID, plan: Plan, batch: Batch, *, errors_before: int) -> bool:
    """Store a batch unless that was done already.

    Takes:   a unit of work of the engine role; errors_before: how many refused rows the import has had so far.
    Gives:   False when the import is no longer to be done from here: it was ended, or another process is running it.
    Raises:  Overtaken: nothing may be committed; repeat it.
    """
    held = await IMPORTS.lock_import.one(uow.raw, uow.tenant, import_id)
    if held is None or held["state"] != "running":
        return False
    if held["checkpoint_line"] == batch.last_line:
        return True  # committed before; only the answer was lost
    if held["checkpoint_line"] != batch.after_line:
        return False
    await SQL.plan_by_index.run(uow.raw)
    if plan.options.kind == "contacts":
        counts = await _move(uow, import_id, plan, batch)
    else:
        counts = await moving.store(uow, import_id, plan, batch, held["created_by"])
    await _keep_errors(uow, import_id, batch.problems[: max(0, MOST_ERRORS - errors_before)])
    await IMPORTS.advance.run(
        uow.raw, uow.tenant, import_id, batch.last_line, batch.row_count, counts.created, counts.updated,
        counts.unchanged, batch.duplicate_count, batch.rejected_count, counts.suppressed, counts.kept_withdrawn,
        _reasons(held["rejected_by"], batch.problems),
    )  # fmt: skip
    if failpoint.ARMED:
        failpoint.hit("import.batch")
    return True


async def _move(uow: UnitOfWork, import_id: UUID, plan: Plan, batch: Batch) -> Counts:
    """Fold the rows into what is known, then write what differs."""
    options = plan.options
    source = options.consent_source or "import"
    place = Place(import_id, Asked(options.channel, options.purpose, source, options.list_id), options.dry_run)
    resolved, refused = await resolve(uow, place, batch.people)
    counts, drafts = _fold(resolved, place.asked, refused)
    batch.problems.extend(refused)
    batch.rejected_count += len(refused)
    if place.is_dry_run:
        await _remember(uow, place, resolved)
    else:
        await _write(uow, place, drafts)
    await _keep_changes(uow, place, drafts)
    addresses = [row.person.address for row in resolved]
    if addresses:
        counts.suppressed = await SQL.count_suppressed.value(uow.raw, uow.tenant, addresses, options.channel)
    return counts


def _fold(resolved: list[Resolved], asked: Asked, refused: list[Problem]) -> tuple[Counts, list[Draft]]:
    """Let every row say what it says. Gives the contacts that are different now."""
    counts = Counts()
    changed: dict[UUID, Draft] = {}
    for person, draft, has_address in resolved:
        try:
            is_changed = draft.take(person, asked, has_address=has_address)
        except Refused as error:
            refused.append(Problem(person.line, "tags", error.code, error.message, echo(", ".join(person.tags))))
            continue
        counts.kept_withdrawn += draft.stays_withdrawn(person)
        if not is_changed:
            counts.unchanged += 1
        elif draft.is_made and draft.id not in changed:
            counts.created += 1
        else:
            counts.updated += 1
        if is_changed:
            changed[draft.id] = draft
            draft.line, draft.address = draft.line or person.line, draft.address or person.address
    return counts, list(changed.values())


async def _remember(uow: UnitOfWork, place: Place, resolved: list[Resolved]) -> None:
    """What a dry run must know in later batches, since it stores nothing."""
    keys: dict[str, UUID] = {}
    for person, draft, has_address in resolved:
        if not has_address:
            keys[f"a:{person.address}"] = draft.id
        if draft.fields["external_id"] and (draft.is_new or "external_id" in draft.after):
            keys[f"e:{draft.fields['external_id']}"] = draft.id
    if keys:
        await SQL.keys_add.run(uow.raw, uow.tenant, place.import_id, list(keys), list(keys.values()))


async def _write(uow: UnitOfWork, place: Place, drafts: list[Draft]) -> None:
    """Contacts, addresses, tags, list and consent, each from arrays and in one order for every transaction."""
    raw, tenant, asked = uow.raw, uow.tenant, place.asked
    drafts.sort(key=lambda draft: draft.id)
    known = [draft for draft in drafts if not draft.is_made]
    await _hold(uow, known)
    if failpoint.ARMED:
        failpoint.hit("import.looked")
    if made := [draft for draft in drafts if draft.is_made]:
        await SQL.make_contacts.run(raw, tenant, *_columns(made))
    if changed := [draft for draft in known if draft.has_new_fields]:
        await SQL.change_contacts.run(raw, tenant, *_columns(changed))
    if given := sorted((a.partition(":")[2], d.id) for d in drafts for a in d.after.get("addresses", ())):
        await SQL.give_addresses.run(raw, tenant, asked.channel, *map(list, zip(*given, strict=True)))
    if tagged := sorted((d.id, tag) for d in drafts for tag in d.after.get("tags", ())):
        await SQL.give_tags.run(raw, tenant, *map(list, zip(*tagged, strict=True)))
    if joining := [draft.id for draft in drafts if "lists" in draft.after]:
        await SQL.give_membership.run(raw, tenant, asked.list_id, joining)
    if saying := [draft for draft in drafts if "consent" in draft.after]:
        statuses = [draft.after["consent"]["status"] for draft in saying]
        told = (asked.channel, asked.purpose, asked.source, [draft.id for draft in saying], statuses)
        if len(await SQL.say_consent.many(raw, tenant, *told)) != len(saying):
            raise Overtaken  # somebody withdrew at this moment: looked at again, it stays withdrawn


async def _hold(uow: UnitOfWork, known: list[Draft]) -> None:
    """Hold those who are to be changed, as they were when we looked."""
    rows = await SQL.lock_contacts.many(uow.raw, uow.tenant, [draft.id for draft in known]) if known else []
    if {row["id"]: row["updated_at"] for row in rows} != {draft.id: draft.updated_at for draft in known}:
        raise Overtaken


def _columns(drafts: list[Draft]) -> tuple[list[Any], ...]:
    external_ids, names, zones, locales = ([draft.fields[name] for draft in drafts] for name in FIELDS)
    attributes = [orjson.dumps(draft.attributes).decode() for draft in drafts]
    return [draft.id for draft in drafts], external_ids, names, attributes, zones, locales


async def _keep_changes(uow: UnitOfWork, place: Place, drafts: list[Draft]) -> None:
    """Keep what was done to each contact, joined with what earlier batches of this import did."""
    if not drafts:
        return
    known = [draft.id for draft in drafts if not draft.is_made]
    found = await SQL.changes_of.many(uow.raw, uow.tenant, place.import_id, known) if known else []
    earlier = {row["contact_id"]: row for row in found}
    rows = []
    for draft in drafts:
        before, after = draft.before, draft.after
        if (row := earlier.get(draft.id)) is not None:
            before, after = joined(orjson.loads(row["before"]), orjson.loads(row["after"]), draft)
        is_new = row["is_new"] if row is not None else draft.is_new
        texts = (orjson.dumps({} if is_new else before).decode(), orjson.dumps(after).decode())
        rows.append((draft.id, draft.line, draft.address, is_new, *texts))
    await SQL.keep_changes.run(uow.raw, uow.tenant, place.import_id, *map(list, zip(*rows, strict=True)))


def _reasons(so_far: str, problems: list[Problem]) -> str:
    """How many rows were refused for which reason in all; a row counts for its first."""
    first = {problem.line: problem.code for problem in reversed(problems)}
    return orjson.dumps(dict(Counter(orjson.loads(so_far)) + Counter(first.values()))).decode()


async def _keep_errors(uow: UnitOfWork, import_id: UUID, problems: list[Problem]) -> None:
    if problems:
        columns = [[getattr(p, name) for p in problems] for name in ("line", "field", "code", "message", "value")]
        await IMPORTS.add_errors.run(uow.raw, uow.tenant, import_id, *columns)
