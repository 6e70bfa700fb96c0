"""Storing one batch of an import: copied into staging, moved set by set, counted, in one transaction.

Owns the order of the statements; a batch is stored once whatever is killed, because the checkpoint moves with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from outrider.base import failpoint
from outrider.data.db import UnitOfWork
from outrider.domain.contacts.imports import tagging
from outrider.domain.contacts.imports.control import Plan
from outrider.domain.contacts.imports.csv_rows import Problem
from outrider.domain.contacts.imports.people import Person
from outrider.domain.contacts.imports.resolve import BY_ADDRESS, NEW, Resolved, resolve
from outrider.domain.contacts.rows import IMPORTS as SQL

MOST_ERRORS = 10_000
"""Refused rows kept with their reasons per import; the others are counted."""

_PAUSE_ROWS = 250
_STAGED = len(Person._fields) - 1
"""All but the tags, which are stored without staging."""

_COLUMNS = ("tenant_id", "import_id", *Person._fields[:_STAGED], "contact_id", "state")


@dataclass(slots=True)
class Counts:
    """What became of the rows of one batch; every row that was stored is in one of the first three."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    suppressed: int = 0
    kept_withdrawn: int = 0


@dataclass(slots=True)
class Batch:
    """Some thousand rows of a file, read and checked. `after_line` is the checkpoint it begins at."""

    after_line: int
    last_line: int
    row_count: int = 0
    rejected_count: int = 0
    duplicate_count: int = 0
    people: list[Person] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


async def store(uow: UnitOfWork, import_id: UUID, plan: Plan, batch: Batch, *, errors_before: int) -> bool:
    """Store a batch unless that was done already.

    Takes:   a unit of work of the engine role; errors_before: how many refused rows the import has had so far.
    Gives:   False when the import is no longer to be done from here: it was ended, or another process is running it.
    """
    held = await SQL.lock_import.one(uow.raw, uow.tenant, import_id)
    if held is None or held["state"] != "running":
        return False
    if held["checkpoint_line"] == batch.last_line:
        return True  # committed before; only the answer was lost
    if held["checkpoint_line"] != batch.after_line:
        return False
    key = (uow.tenant, import_id, batch.after_line)
    counts = await _move(uow, key, plan, batch)
    await _keep_errors(uow, import_id, batch.problems[: max(0, MOST_ERRORS - errors_before)])
    await SQL.advance.run(
        uow.raw,
        uow.tenant,
        import_id,
        batch.last_line,
        batch.row_count,
        counts.created,
        counts.updated,
        counts.unchanged,
        batch.duplicate_count,
        batch.rejected_count,
        counts.suppressed,
        counts.kept_withdrawn,
    )
    if failpoint.ARMED:
        failpoint.hit("import.batch")
    return True


async def _move(uow: UnitOfWork, key: tuple[UUID, UUID, int], plan: Plan, batch: Batch) -> Counts:
    """Staging, contacts, addresses, list and consent."""
    raw, options = uow.raw, plan.options
    await SQL.plan_by_index.run(raw)
    resolved, contradictions = await resolve(uow, options.channel, batch.people)
    resolved, overfull = await tagging.within_limit(uow, resolved)
    contradictions += overfull
    batch.problems.extend(contradictions)
    batch.rejected_count += len(contradictions)
    if not resolved:
        return Counts()
    await raw.copy_records_to_table("contacts_staging", records=_records(key, resolved), columns=_COLUMNS)
    if failpoint.ARMED:
        failpoint.hit("import.copied")
    await SQL.merge_contacts.run(raw, *key)
    await SQL.merge_addresses.run(raw, *key, options.channel)
    changed = await _change(uow, key, resolved)
    counts = _count(resolved, changed | await tagging.store(uow, resolved))
    if options.list_id is not None:
        await SQL.merge_members.run(raw, *key, options.list_id)
    if any(person.consent for person in batch.people):
        source = options.consent_source or "import"
        counts.kept_withdrawn = await SQL.count_kept.value(raw, *key, options.channel, options.purpose)
        await SQL.merge_consents.run(raw, *key, options.channel, options.purpose, source)
    counts.suppressed = await SQL.count_suppressed.value(raw, *key, options.channel)
    await SQL.clear_staging.run(raw, *key)
    return counts


async def _records(key: tuple[UUID, UUID, int], resolved: list[Resolved]) -> AsyncIterator[tuple[Any, ...]]:
    """Rows for COPY, with a pause for the other work of the process now and then."""
    for position, row in enumerate(resolved):
        if position % _PAUSE_ROWS == 0:
            await asyncio.sleep(0)
        yield (key[0], key[1], *row.person[:_STAGED], row.contact_id, row.state)


async def _change(uow: UnitOfWork, key: tuple[UUID, UUID, int], resolved: list[Resolved]) -> set[UUID]:
    """Which known contacts were changed. Its join is planned for the sizes of now, not for those of the first batch."""
    if all(row.state == NEW for row in resolved):
        return set()
    await SQL.plan_each_time.run(uow.raw, "force_custom_plan")
    changed = {row["id"] for row in await SQL.merge_changes.many(uow.raw, *key)}
    await SQL.plan_each_time.run(uow.raw, "force_generic_plan")
    return changed


def _count(resolved: list[Resolved], changed: set[UUID]) -> Counts:
    created = {row.contact_id for row in resolved if row.state == NEW}
    unchanged = sum(row.state == BY_ADDRESS and row.contact_id not in changed for row in resolved)
    return Counts(len(created), len(resolved) - len(created) - unchanged, unchanged)


async def _keep_errors(uow: UnitOfWork, import_id: UUID, problems: list[Problem]) -> None:
    if problems:
        columns = [[getattr(p, name) for p in problems] for name in ("line", "field", "code", "message", "value")]
        await SQL.add_errors.run(uow.raw, uow.tenant, import_id, *columns)
