"""Running an import: the file is read in a thread, ahead of the database while nobody else works, stored by batches.

Owns checkpoint, resumption and patience with a database that is away. Constant memory: two batches at most.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections.abc import Iterator, Mapping
from io import BufferedReader
from pathlib import Path
from uuid import UUID

import asyncpg

from outrider.base import failpoint
from outrider.base.errors import Refused, Unavailable
from outrider.contracts.channel import Channel
from outrider.contracts.jobs import Superseded
from outrider.data.db import Database, Role, UnitOfWork
from outrider.domain.contacts.channels import channel_of
from outrider.domain.contacts.imports import control, merge, moving
from outrider.domain.contacts.imports.batches import Batch, Overtaken
from outrider.domain.contacts.imports.control import ImportView, Plan
from outrider.domain.contacts.imports.csv_rows import Row
from outrider.domain.contacts.imports.entries import Entry
from outrider.domain.contacts.imports.examine import body, open_file
from outrider.domain.contacts.imports.pace import Pace
from outrider.domain.contacts.imports.people import latest
from outrider.domain.contacts.imports.readers import Reader, reader_of
from outrider.domain.contacts.rows import IMPORTS as SQL

BATCH_ROWS = 5_000
MOST_SHOWN = 10_000
"""So many contacts that a dry run would change are kept to be shown; all are counted."""

_BITE = 10_000
_REPEATED = (asyncpg.UniqueViolationError, asyncpg.ForeignKeyViolationError, Overtaken)
"""Somebody else wrote the same address, changed or deleted a contact between our look and our write: done once more."""

_MOST_REPEATS = 5


class Watch:
    """Who follows a run, and may fence it. Does nothing by itself."""

    async def hold(self, uow: UnitOfWork) -> None:
        """Look, first thing in each batch's transaction, whether this run is still the one.

        Raises:  Superseded when it is not; nothing is stored.
        """

    async def stored(self, view: ImportView) -> None:
        """Told after each batch how far it is."""


async def run(
    db: Database,
    channels: Mapping[str, Channel],
    tenant_id: UUID,
    import_id: UUID,
    path: Path,
    *,
    watch: Watch | None = None,
    patience_s: float = 60.0,
    is_last_try: bool = True,
) -> ImportView:
    """Take an import from its checkpoint to its end.

    Takes:   path         the same file that was examined; its SHA-256 is compared first
             patience_s   how long the database may be away between two batches
             is_last_try  whether an error that nobody foresaw ends the import; else it stays running
    Gives:   the import as it stands: completed, or cancelled by somebody, or still running in another process.
    Raises:  Refused(file_changed, no_file; the import is failed); Unavailable: it stays running and can be resumed;
             Superseded when `watch` says that somebody else runs it now.
    """
    pace = Pace()
    async with db.uow(Role.ENGINE, tenant_id) as uow:
        view = await control.get(uow, import_id)
        pace.look(await SQL.written_by_others.value(uow.raw))
    if view.state != "running":
        return view
    try:
        await _take(db, channels, tenant_id, view, path, watch or Watch(), pace, patience_s)
    except (Unavailable, Superseded, asyncio.CancelledError):
        raise
    except Exception as error:
        if not (is_last_try or isinstance(error, Refused)):
            raise
        reason = error.message if isinstance(error, Refused) else "an internal error; see the log"
        async with db.uow(Role.ENGINE, tenant_id) as uow:
            await control.fail(uow, import_id, reason)
        raise
    async with db.uow(Role.ENGINE, tenant_id) as uow:
        return await control.get(uow, import_id)


async def _take(
    db: Database,
    channels: Mapping[str, Channel],
    tenant_id: UUID,
    view: ImportView,
    path: Path,
    watch: Watch,
    pace: Pace,
    patience_s: float,
) -> None:
    with open_file(path) as stream:
        await asyncio.to_thread(_check_same, stream, view.sha256)
        batches = read_batches(stream, view.plan, channels, after_line=view.checkpoint_line)
        since_s = time.monotonic()
        reading = _read(batches)
        try:
            while (batch := await asyncio.shield(reading)) is not None:
                await asyncio.sleep(pace.rest_s(time.monotonic() - since_s))
                since_s, is_ahead = time.monotonic(), pace.is_alone
                if is_ahead:
                    reading = _read(batches)
                view = await _store(db, tenant_id, view, batch, watch, pace, patience_s)
                await watch.stored(view)
                if view.state != "running" or view.checkpoint_line != batch.last_line:
                    return
                if not is_ahead:
                    reading = _read(batches)
        finally:
            await asyncio.wait([reading])  # the thread must not outlive the file
            reading.cancelled() or reading.exception()  # looked at, whichever error is on its way up
    if view.is_dry_run:
        await _tidy(db, tenant_id, view.id)
    async with db.uow(Role.ENGINE, tenant_id) as uow:
        await control.complete(uow, view.id)


def _read(batches: Iterator[Batch]) -> asyncio.Task[Batch | None]:
    """Read the next batch in a thread."""
    return asyncio.create_task(asyncio.to_thread(next, batches, None))


async def _tidy(db: Database, tenant_id: UUID, import_id: UUID) -> None:
    """Of what a dry run met and would have changed, leave what is shown."""
    async with db.uow(Role.ENGINE, tenant_id) as uow:
        last = await SQL.last_shown_change.value(uow.raw, tenant_id, import_id, MOST_SHOWN)
    gone = _BITE
    while gone == _BITE:
        async with db.uow(Role.ENGINE, tenant_id) as uow:
            gone = await SQL.keys_drop.run(uow.raw, tenant_id, import_id, _BITE)
            if last is not None:
                gone = max(gone, await SQL.changes_trim.run(uow.raw, tenant_id, import_id, last, _BITE))


async def _store(
    db: Database, tenant_id: UUID, view: ImportView, batch: Batch, watch: Watch, pace: Pace, patience_s: float
) -> ImportView:
    """Store a batch, again and again while the database is away, and give the import as it stands."""
    deadline = time.monotonic() + patience_s
    attempt, repeats = 0, 0
    counted = (batch.rejected_count, len(batch.problems))
    while True:
        attempt += 1
        batch.rejected_count, problem_count = counted
        del batch.problems[problem_count:]
        try:
            async with db.uow(Role.ENGINE, tenant_id) as uow:
                await watch.hold(uow)
                await merge.store(uow, view.id, view.plan, batch, errors_before=view.rejected_count)
            if failpoint.ARMED:
                failpoint.hit("import.committed")
            async with db.uow(Role.ENGINE, tenant_id) as uow:
                pace.look(await SQL.written_by_others.value(uow.raw))
                return await control.get(uow, view.id)
        except _REPEATED as error:
            repeats += 1  # apart from how often the database was away: that is no sign of others at the same contacts
            if repeats >= _MOST_REPEATS:
                raise _conflict(error) from error
        except Unavailable:
            if time.monotonic() > deadline:
                raise
        await asyncio.sleep(random.uniform(0.05, min(5.0, 0.1 * 2**attempt)))  # noqa: S311 - spreads load


def read_batches(
    stream: BufferedReader, plan: Plan, channels: Mapping[str, Channel], *, after_line: int
) -> Iterator[Batch]:
    """The batches of a file beyond a checkpoint; of an address that comes several times in one, the last row counts.

    But for a withdrawal, which holds in whichever of them it stands.
    """
    reader = reader_of(plan.columns, plan.options, channel_of(channels, plan.options.channel))
    batch = Batch(after_line, after_line)
    last_of: dict[str, int] = {}
    for row in body(stream, plan.delimiter, len(plan.columns)):
        if row.line <= after_line:
            continue
        _add(batch, row, reader, last_of)
        if batch.row_count == BATCH_ROWS:
            yield _whole(batch)
            batch, last_of = Batch(row.last_line, row.last_line), {}
    if batch.row_count:
        yield _whole(batch)


def _add(batch: Batch, row: Row, reader: Reader, last_of: dict[str, int]) -> None:
    batch.row_count += 1
    batch.last_line = row.last_line
    found = reader.read(row)
    if isinstance(found, list):
        batch.rejected_count += 1
        batch.problems.extend(found)
        return
    earlier = last_of.get(found.address)
    if earlier is None:
        last_of[found.address] = len(batch.people)
        batch.people.append(found)
    else:
        batch.duplicate_count += 1
        before = batch.people[earlier]
        batch.people[earlier] = moving.combined(before, found) if isinstance(found, Entry) else latest(before, found)


def _whole(batch: Batch) -> Batch:
    """Staging is read in order of lines."""
    batch.people.sort(key=lambda found: found.line)
    return batch


def _check_same(stream: BufferedReader, sha256: str) -> None:
    if hashlib.file_digest(stream, "sha256").hexdigest() != sha256:
        raise Refused("file_changed", "the file is not the one this import began with", field="file")


def _conflict(error: Exception) -> Refused:
    if getattr(error, "table_name", "") == "list_members":
        return Refused("list_gone", "the list was deleted while the import was running", field="list", status=409)
    return Refused("busy", "others keep changing the same contacts; import the file again", field="file", status=409)
