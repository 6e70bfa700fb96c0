"""A tenant's contacts, memberships, do-not-contact entries or proof of consent as CSV, written by a job.

Owns the columns. Read page by page by key and written as it goes, so that a million rows need no more memory than a
thousand; every cell is text to a spreadsheet, and an import of ours reads it back as it was.
"""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import orjson

from outrider.base.ids import NIL
from outrider.contracts.actor import Actor
from outrider.data.db import Database, Role, UnitOfWork
from outrider.domain.audit.append import append
from outrider.domain.contacts import lists
from outrider.domain.contacts.imports.cells import neutral
from outrider.domain.people.export import ExportView, Progress, get
from outrider.domain.people.files import Writing
from outrider.domain.people.rows import EXPORTS, SQL

Kind = Literal["contacts", "lists", "suppressions", "consents"]
PAGE = 1_000
_HEADERS: dict[str, tuple[str, ...]] = {
    "contacts": (
        "id", "external_id", "name", "email", "timezone", "locale", "tags", "attributes", "created_at", "updated_at",
        "outrider_addresses", "outrider_lists", "outrider_consents",
    ),
    "lists": ("list_id", "list", "contact_id", "external_id", "address", "added_at"),
    "suppressions": (
        "channel", "address", "sha256", "scope", "reason", "source", "note", "created_by", "created_at",
    ),
    "consents": (
        "contact_id", "external_id", "address", "channel", "purpose", "status", "at", "source", "ip", "text_shown",
        "form_version",
    ),
}  # fmt: skip
"""Of contacts, what begins with `outrider_` is only told: our imports leave it out."""


async def ask(
    uow: UnitOfWork, actor: Actor, kind: Kind, *, list_id: UUID | None = None, channel: str = "email"
) -> ExportView:
    """Record that a table is wanted; the caller enqueues the job `export_table` in the same transaction.

    Takes:   list_id  contacts: only those on this list; channel  contacts: whose first address is in the column of
             its name.
    Raises:  Refused(not_found) naming the list.
    """
    if list_id is not None:
        await lists.get(uow, list_id, field="/list_id")
    options = {"list_id": str(list_id) if list_id else None, "channel": channel}
    key = (uow.raw, uow.tenant, kind, None, orjson.dumps(options).decode(), actor.name)
    export_id: UUID = await SQL.insert_export.value(*key)
    await append(uow, actor, action="export.ask", target=("export", str(export_id)), details={"kind": kind, **options})
    return await get(uow, export_id)


async def write(
    db: Database, tenant_id: UUID, kind: str, options: dict[str, Any], writing: Writing, progress: Progress
) -> int:
    """Write a header and every row. Gives how many rows."""
    header = _HEADERS[kind]
    if kind == "contacts":
        header = tuple(options["channel"] if name == "email" else name for name in header)
    writing.write(_csv([header]))
    count = 0
    async for page in _pages(db, tenant_id, kind, options):
        writing.write(_csv(page))
        count += len(page)
        await progress(count)
    return count


async def _pages(
    db: Database, tenant_id: UUID, kind: str, options: dict[str, Any]
) -> AsyncIterator[list[Sequence[Any]]]:
    """Rows page by page, each page in a short transaction of its own."""
    statement = _STATEMENTS[kind]
    list_id = UUID(options["list_id"]) if options.get("list_id") else None
    after: tuple[Any, ...] = _FIRST[kind]
    more = (list_id,) if kind == "contacts" else ()
    while True:
        async with db.uow(Role.ENGINE, tenant_id) as uow:
            rows = await statement.many(uow.raw, tenant_id, *after, PAGE, *more)
        if rows:
            yield [_cells(kind, dict(row), options) for row in rows]
            after = _LAST[kind](rows[-1])
        if len(rows) < PAGE:
            return


_STATEMENTS = {
    "contacts": EXPORTS.export_contacts,
    "lists": EXPORTS.export_lists,
    "suppressions": EXPORTS.export_suppressions,
    "consents": EXPORTS.export_consents,
}
_FIRST: dict[str, tuple[Any, ...]] = {
    "contacts": (NIL,), "lists": (NIL, NIL), "suppressions": ("", b""), "consents": (NIL,),
}  # fmt: skip
_LAST: dict[str, Callable[[Any], tuple[Any, ...]]] = {
    "contacts": lambda row: (row["id"],),
    "lists": lambda row: (row["list_id"], row["contact_id"]),
    "suppressions": lambda row: (row["channel"], row["address_hash"]),
    "consents": lambda row: (row["id"],),
}


def _cells(kind: str, row: dict[str, Any], options: dict[str, Any]) -> list[Any]:
    if kind == "contacts":
        start = f"{options['channel']}:"
        row["email"] = next((a.removeprefix(start) for a in row["addresses"] if a.startswith(start)), "")
        row["tags"] = ",".join(row["tags"])
        row["outrider_addresses"] = " ".join(row["addresses"])
        row["outrider_lists"] = "; ".join(row["lists"])
        row["outrider_consents"] = "; ".join(row["consents"])
    return [row[name] for name in _HEADERS[kind]]


def _csv(rows: Sequence[Sequence[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows([neutral(_text(cell)) for cell in row] for row in rows)
    return text.getvalue().encode()


def _text(cell: Any) -> str:
    if cell is None:
        return ""
    return cell.isoformat() if isinstance(cell, datetime) else str(cell)
