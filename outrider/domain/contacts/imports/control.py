"""Beginning, watching and ending imports. The rows themselves are taken by `run`."""

from __future__ import annotations

import unicodedata
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import asyncpg
import msgspec

from outrider.base.errors import Refused
from outrider.contracts.actor import Actor
from outrider.data.db import UnitOfWork
from outrider.domain.audit.append import append
from outrider.domain.contacts import lists
from outrider.domain.contacts.imports.examine import FileFacts, ProblemView
from outrider.domain.contacts.imports.options import Column, Delimiter, Kind, Options
from outrider.domain.contacts.rows import IMPORTS as SQL

NEWEST = UUID(int=2**128 - 1)
ABANDONED_AFTER_S = 3600
_LONGEST_FILE_NAME = 255
_OURSELVES = Actor("system", "imports")


class Plan(msgspec.Struct, frozen=True):
    """How an import reads its file; frozen with it, so that a resumed run does exactly the same."""

    options: Options
    delimiter: Delimiter
    columns: list[Column]


class ImportView(msgspec.Struct, frozen=True):
    """An import with its progress.

    row_count = created + updated + unchanged + duplicate + rejected. `duplicate_count` are rows whose address comes
    again later in the same batch; `rejected_by` says how many rows were refused for which reason; `suppressed_count`
    rows were stored and stay on the do-not-contact list; `kept_withdrawn_count` rows said granted where the recipient
    has withdrawn, which stays: nobody is ever subscribed again. A dry run counts the same and changes nothing.
    `restored_count`, `deleted_count` and `left_count` are contacts of an undo: put back, deleted, left alone.
    """

    id: UUID
    kind: Kind
    is_dry_run: bool
    file_name: str
    sha256: str
    size_bytes: int
    list_id: UUID | None
    plan: Plan
    state: str
    total_count: int
    row_count: int
    created_count: int
    updated_count: int
    unchanged_count: int
    duplicate_count: int
    rejected_count: int
    rejected_by: dict[str, int]
    suppressed_count: int
    kept_withdrawn_count: int
    checkpoint_line: int
    error: str | None
    undo_state: Literal["running", "completed", "cancelled", "failed"] | None
    undo_job_id: UUID | None
    restored_count: int
    deleted_count: int
    left_count: int
    created_by: str
    created_at: datetime
    progress_at: datetime
    finished_at: datetime | None


async def begin(
    uow: UnitOfWork,
    actor: Actor,
    facts: FileFacts,
    options: Options,
    file_name: str,
    *,
    list_is_planned: bool = False,
) -> ImportView:
    """Record an import that `run` will take, or find the one of the same file and options that was interrupted.

    Takes:   facts from `examine` of the same file with the same options; list_is_planned: a dry run for a list that
             would be made.
    Gives:   the import, at its checkpoint.
    Raises:  Refused(not_found) naming the list.
    """
    if options.list_id is not None and not list_is_planned:
        await lists.get(uow, options.list_id, field="list")
    plan = msgspec.json.encode(Plan(options, facts.delimiter, facts.columns)).decode()
    sha256 = bytes.fromhex(facts.sha256)
    known = await SQL.find_running.value(uow.raw, uow.tenant, sha256, plan, options.list_id)
    if known is not None:
        return await get(uow, known)
    shown = display_name(file_name)
    import_id = await SQL.insert_import.value(
        uow.raw, uow.tenant, shown, sha256, facts.size_bytes, options.list_id, plan, facts.row_count, actor.name,
        options.kind, options.dry_run,
    )  # fmt: skip
    details = {"file": shown, "rows": facts.row_count, "sha256": facts.sha256, "consent": options.consent}
    details |= {"kind": options.kind, "dry_run": options.dry_run}
    await append(uow, actor, action="import.begin", target=("import", str(import_id)), details=details)
    return await get(uow, import_id)


async def get(uow: UnitOfWork, import_id: UUID) -> ImportView:
    """One import.

    Raises:  Refused(not_found).
    """
    row = await SQL.import_get.one(uow.raw, uow.tenant, import_id)
    if row is None:
        raise Refused("not_found", "no such import", field="/id", status=404)
    return _view(row)


async def listed(uow: UnitOfWork, *, limit: int, before: UUID | None = None) -> list[ImportView]:
    """Imports, newest first, `limit` (1..1000) of those before `before`."""
    return [_view(row) for row in await SQL.imports_page.many(uow.raw, uow.tenant, before or NEWEST, limit)]


async def errors(
    uow: UnitOfWork, import_id: UUID, *, limit: int, after: tuple[int, str] | None = None
) -> list[ProblemView]:
    """Refused rows by line, after line and field of the last one seen; at most 10,000 are kept per import.

    Raises:  Refused(not_found).
    """
    await get(uow, import_id)
    line, field = after or (0, "")
    rows = await SQL.import_errors_page.many(uow.raw, uow.tenant, import_id, line, field, limit)
    return [ProblemView(**dict(row)) for row in rows]


async def cancel(uow: UnitOfWork, actor: Actor, import_id: UUID) -> ImportView:
    """Stop an import after the batch under way; what was imported stays, and importing the file again is harmless.

    Gives:   the import; cancelling twice changes nothing.
    Raises:  Refused(not_found); Refused(not_running, 409) when it came to another end.
    """
    ended = await SQL.end_import.value(uow.raw, uow.tenant, import_id, "cancelled", None)
    view = await get(uow, import_id)
    if ended is not None:
        details = {"rows": view.row_count, "of": view.total_count}
        await append(uow, actor, action="import.cancel", target=("import", str(import_id)), details=details)
    elif view.state != "cancelled":
        raise Refused("not_running", f"the import is {view.state}", field="/id", status=409)
    return view


async def complete(uow: UnitOfWork, import_id: UUID) -> None:
    """Record that every row was taken or refused; one that has ended stays as it is."""
    await _end(uow, import_id, "completed")


async def fail(uow: UnitOfWork, import_id: UUID, error: str) -> None:
    """Record why an import ended early; one that has ended stays as it is."""
    await _end(uow, import_id, "failed", error[:500])


async def withdraw(uow: UnitOfWork, import_id: UUID) -> None:
    """Record that an import was stopped by stopping what ran it; one that has ended stays as it is."""
    await _end(uow, import_id, "cancelled")


async def _end(uow: UnitOfWork, import_id: UUID, state: str, error: str | None = None) -> None:
    """Bring an import to its end and say so in the audit log, with what became of its rows [S1-03]."""
    if await SQL.end_import.value(uow.raw, uow.tenant, import_id, state, error) is None:
        return
    view = await get(uow, import_id)
    details = {"rows": view.row_count, "of": view.total_count, "dry_run": view.is_dry_run}
    details |= {name: getattr(view, f"{name}_count") for name in ("created", "updated", "unchanged", "rejected")}
    target = ("import", str(import_id))
    await append(uow, _OURSELVES, action=f"import.{state}", target=target, reason=error or "", details=details)


class Unfinished(msgspec.Struct, frozen=True):
    """An import that is running somewhere, or was when its process ended; `is_abandoned` after an hour of silence."""

    tenant_id: UUID
    import_id: UUID
    is_abandoned: bool


async def unfinished(uow: UnitOfWork) -> list[Unfinished]:
    """Every import that is not at its end, over all tenants (engine role): whoever has the file may go on with it."""
    rows = await SQL.running_imports.many(uow.raw, ABANDONED_AFTER_S)
    return [Unfinished(row["tenant_id"], row["id"], row["is_abandoned"]) for row in rows]


def display_name(file_name: str) -> str:
    """A file name for showing only: never used as a path, nothing that hides or reorders letters [C65]."""
    plain = "".join("\ufffd" if unicodedata.category(c)[0] in "CZ" and c != " " else c for c in file_name)
    return plain[:_LONGEST_FILE_NAME] or "import.csv"


def _view(row: asyncpg.Record) -> ImportView:
    facts: dict[str, Any] = dict(row)
    rejected_by = msgspec.json.decode(facts.pop("rejected_by"), type=dict[str, int])
    return ImportView(plan=msgspec.json.decode(facts.pop("options"), type=Plan), rejected_by=rejected_by, **facts)
