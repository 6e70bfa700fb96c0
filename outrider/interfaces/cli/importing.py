"""Importing a file in a command's own process: examined, taken with a bar, told.

Owns what `contacts import`, `suppressions import` and `consents import` have in common.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import msgspec

from outrider.base.errors import Misconfigured, Refused
from outrider.data.db import Database, Role
from outrider.domain.contacts import attributes, lists
from outrider.domain.contacts.channels import channel_of
from outrider.domain.contacts.imports import changes, control, run
from outrider.domain.contacts.imports.changes import ChangeView
from outrider.domain.contacts.imports.control import ImportView
from outrider.domain.contacts.imports.examine import FileFacts, ProblemView, examine
from outrider.domain.contacts.imports.options import Options
from outrider.domain.contacts.imports.report import as_csv
from outrider.domain.tenants.regions import check_region, region_of
from outrider.interfaces.cli import exits, named
from outrider.interfaces.cli.doors import doors
from outrider.interfaces.cli.options import Changing, readable_file
from outrider.interfaces.cli.output import Answer, facts, table
from outrider.interfaces.cli.plugged import channels
from outrider.interfaces.cli.progress import Advance, progress
from outrider.interfaces.cli.work import Work, tenant_of, within

SHOWN: Final = 10
_PAGE: Final = 1000
COUNTS: Final = (
    "row_count", "created_count", "updated_count", "unchanged_count", "duplicate_count", "rejected_count",
    "suppressed_count", "kept_withdrawn_count",
)  # fmt: skip


async def take(
    file: Path,
    asked: Options,
    options: Changing,
    *,
    list_name: str | None = None,
    errors: Path | None = None,
    region: str = "",
) -> Answer:
    """Examine a file and take it, or with --dry-run only say what would happen."""
    readable_file(file, "file")
    plugin = channel_of(channels(), asked.channel, field="channel")
    async with doors().database() as db:
        tenant_id = await tenant_of(db, options.tenant)
        async with db.uow(Role.APP, tenant_id) as uow:
            definitions = await attributes.listed(uow)
            if plugin.is_regional:
                home = check_region(region, field="--region") or await region_of(uow.raw, tenant_id)
                asked = msgspec.structs.replace(asked, region=home)
        asked = msgspec.structs.replace(asked, dry_run=options.dry_run)
        found = await asyncio.to_thread(examine, file, asked, plugin, definitions)
        view = await _begun(db, tenant_id, asked, found, file.name, list_name, reason=options.reason)
        with progress("trying" if options.dry_run else "importing", found.row_count) as advance:
            view = await run.run(db, channels(), tenant_id, view.id, file, watch=_Bar(advance))
        refused = await problems(db, tenant_id, view.id)
        async with db.uow(Role.APP, tenant_id) as uow:
            would = await changes.listed(uow, view.id, limit=SHOWN) if view.is_dry_run else []
    if errors is not None:
        write(errors, refused)
    return _told_of(view, refused, errors, would, found)


async def _begun(
    db: Database,
    tenant_id: UUID,
    asked: Options,
    found: FileFacts,
    file_name: str,
    list_name: str | None,
    *,
    reason: str,
) -> ImportView:
    """The record of the import; its list is made when there is none, though not by a dry run."""
    async with within(db, tenant_id, reason=reason) as work:
        is_planned = False
        if list_name is not None:
            list_id = await _list(work, list_name, make=not asked.dry_run)
            is_planned = list_id is None
            asked = msgspec.structs.replace(asked, list_id=list_id or uuid4())
        return await control.begin(work.uow, work.actor, found, asked, file_name, list_is_planned=is_planned)


async def _list(work: Work, name: str, *, make: bool) -> UUID | None:
    """The list of this name or id, made when there is none."""
    try:
        page = lambda after, limit: lists.listed(work.uow, limit=limit, after=after)  # noqa: E731 - one use
        return (await named.find(name, "list", page, field="--list")).id
    except Refused as error:
        if error.code != "not_found":
            raise
    return (await lists.create(work.uow, work.actor, name)).id if make else None


async def problems(db: Database, tenant_id: UUID, import_id: UUID) -> list[ProblemView]:
    """Every refused row that was kept (at most 10,000), page by page."""
    refused: list[ProblemView] = []
    while True:
        async with db.uow(Role.APP, tenant_id) as uow:
            last = (refused[-1].line, refused[-1].field) if refused else None
            page = await control.errors(uow, import_id, limit=_PAGE, after=last)
        refused.extend(page)
        if len(page) < _PAGE:
            return refused


class _Bar(run.Watch):
    """Moves the bar."""

    def __init__(self, advance: Advance) -> None:
        self._advance = advance

    async def stored(self, view: ImportView) -> None:
        """See `Watch`."""
        self._advance(view.row_count)


def write(path: Path, refused: list[ProblemView]) -> None:
    """Write refused rows, private; a formula in a cell stays text in a spreadsheet."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8", newline="") as file:
            os.fchmod(fd, 0o600)
            file.write(as_csv(refused))
    except OSError as error:
        raise Misconfigured("file_unusable", f"{path} cannot be written: {error.strerror}", field="--errors") from error


def change_rows(found: list[ChangeView]) -> list[dict[str, Any]]:
    """Changes as rows of a table, one per field."""
    return [
        {
            "line": one.line,
            "contact": one.address or str(one.contact_id),
            "is": "new" if one.is_new else "known",
            "field": field.field,
            "before": _short(field.before),
            "after": _short(field.after),
            "undone": " ".join(filter(None, [one.outcome, *one.reasons])),
        }
        for one in found
        for field in one.fields
    ]


def mapping_of(pairs: list[str] | None) -> dict[str, str]:
    """What --map says: header to field."""
    return dict(_pair(each) for each in pairs or ())


def _short(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _told_of(
    view: ImportView, refused: list[ProblemView], errors: Path | None, would: list[ChangeView], found: FileFacts
) -> Answer:
    data = {
        **msgspec.to_builtins(view),
        "columns": msgspec.to_builtins(found.columns),
        "errors": [msgspec.to_builtins(each) for each in refused],
    }
    columns = ", ".join(f"{column.header} -> {column.target}" for column in found.columns)
    head = f"import {view.id} is {view.state}"
    if view.is_dry_run:
        head = f"dry run, nothing was changed; columns: {columns}\nchanges: outrider imports changes {view.id}"
        data["changes"] = [msgspec.to_builtins(each) for each in would]
    parts = [head, facts({name.removesuffix("_count"): data[name] for name in COUNTS})]
    if refused:
        reasons = ", ".join(f"{code} {count}" for code, count in sorted(view.rejected_by.items()))
        parts.append(
            _refused(refused, reasons, "all of them in " + str(errors) if errors else "all with --errors FILE")
        )
    if would:
        columns_shown = ("line", "contact", "is", "field", "before", "after")
        parts.append("what would change (the first contacts)\n" + table(change_rows(would), columns_shown))
    return Answer(data, "\n".join(parts), exits.OK if view.state == "completed" else exits.CHECK_FAILED)


def _refused(refused: list[ProblemView], reasons: str, where: str) -> str:
    rows = [msgspec.to_builtins(each) for each in refused[:SHOWN]]
    return f"refused rows: {reasons} ({where})\n" + table(rows, ("line", "field", "code", "message", "value"))


def _pair(text: str) -> tuple[str, str]:
    header, sign, target = text.rpartition("=")
    if not sign:
        raise Refused("bad_mapping", f"{text[:80]!r} is not header=field", field="--map")
    return header, target
