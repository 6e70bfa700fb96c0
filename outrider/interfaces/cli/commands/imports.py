"""Imports: list, show, cancel, what they changed, undo."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from cyclopts import App, Parameter

from outrider.base.ids import parse_id
from outrider.domain.contacts.imports import changes, control
from outrider.domain.people import undo
from outrider.engine.maintenance import imports
from outrider.interfaces.cli import importing
from outrider.interfaces.cli.confirm import Yes, confirm
from outrider.interfaces.cli.options import CHANGING, COMMON, Changing, Common, Limit
from outrider.interfaces.cli.output import Answer, facts, table
from outrider.interfaces.cli.work import looking, note, wired

APP = App(name="imports")

Id = Annotated[str, Parameter(help="The id of the import.")]


@APP.command(name="list")
async def list_(*, limit: Limit = 50, before: str | None = None, options: Common = COMMON) -> Answer:
    """List imports and dry runs, newest first.

    Example: `outrider imports list`

    Parameters
    ----------
    before
        Only older ones than this import.
    """
    async with looking(options) as work:
        last = parse_id(before, "--before") if before else None
        found = await control.listed(work.uow, limit=limit, before=last)
    rows = [msgspec.to_builtins(each) for each in found]
    columns = (
        "id", "kind", "is_dry_run", "state", "file_name", "row_count", "created_count", "updated_count",
        "rejected_count", "undo_state", "created_at",
    )  # fmt: skip
    return Answer(rows, table(rows, columns, empty="no imports"))


@APP.command
async def show(import_id: Id, *, options: Common = COMMON) -> Answer:
    """Show one import with its counts, and its undo.

    Example: `outrider imports show ID`
    """
    async with looking(options) as work:
        found = await control.get(work.uow, parse_id(import_id, "import"))
    data = msgspec.to_builtins(found)
    hidden = {"plan", "rejected_by"}
    shown: dict[str, Any] = {name: value for name, value in data.items() if name not in hidden}
    shown["refused"] = ", ".join(f"{code} {count}" for code, count in sorted(found.rejected_by.items()))
    shown["columns"] = ", ".join(f"{column.header} -> {column.target}" for column in found.plan.columns)
    return Answer(data, facts(shown))


@APP.command
async def cancel(import_id: Id, *, yes: Yes = False, options: Changing = CHANGING) -> Answer:
    """Stop an import after the batch under way, and its job; what was imported stays, and can be undone.

    Example: `outrider imports cancel ID`
    """
    identifier = parse_id(import_id, "import")
    if not options.dry_run:
        confirm(f"import {identifier} ends where it is", "cancel", yes=yes)
    async with wired(options) as (runtime, work):
        view, _ = await imports.cancel(work.uow, work.actor, identifier)
    if not options.dry_run:
        await imports.forget_file(runtime, work.tenant_id, identifier)
    text = f"import {identifier} is cancelled after {view.row_count} of {view.total_count} rows"
    return Answer(msgspec.to_builtins(view), note(text, dry_run=options.dry_run))


@APP.command(name="changes")
async def changes_(
    import_id: Id,
    *,
    only: Literal["new", "known", "restored", "deleted", "partly", "left"] | None = None,
    limit: Limit = 100,
    after: str | None = None,
    options: Common = COMMON,
) -> Answer:
    """Show field by field what an import changed, or what a dry run would change (the first 10,000 contacts).

    Example: `outrider imports changes ID --only left`

    Parameters
    ----------
    only
        Contacts that the import made, that it changed, or with which undoing did this.
    after
        The id of the last contact seen.
    """
    is_new = {"new": True, "known": False}.get(only or "")
    outcome = only if only not in {None, "new", "known"} else None
    async with looking(options) as work:
        last = parse_id(after, "--after") if after else None
        found = await changes.listed(
            work.uow, parse_id(import_id, "import"), limit=limit, after=last, is_new=is_new, outcome=outcome
        )
    columns = ("line", "contact", "is", "field", "before", "after", "undone")
    rows = importing.change_rows(found)
    return Answer([msgspec.to_builtins(each) for each in found], table(rows, columns, empty="no changes are kept"))


@APP.command(name="undo")
async def undo_(import_id: Id, *, yes: Yes = False, options: Changing = CHANGING) -> Answer:
    """Undo an import by a job: put back what nobody changed since, delete whom it made unless they were used since.

    What is left alone is shown by `outrider imports changes`, with the reason. Withdrawals and suppressions made since
    stay. The job may be cancelled, and the undo begun again.

    Example: `outrider imports undo ID`
    """
    identifier = parse_id(import_id, "import")
    async with looking(options) as looked:
        found = await undo.preview(looked.uow, identifier)
    what = f"{found.known_count} contacts are put back, {found.new_count} deleted, as far as nothing has come of them"
    if not options.dry_run:
        confirm(what, "undo", yes=yes)
    async with wired(options) as (runtime, work):
        await imports.settle_undo_of(work.uow, identifier)
        await undo.begin(work.uow, work.actor, identifier, count=found.count, reason=options.reason)
        view = await imports.enqueue_undo(work.uow, runtime, work.actor, identifier, found.count)
    text = f"{what}; job {view.undo_job_id} does it (a scheduler must run)"
    return Answer(msgspec.to_builtins(view), note(text, dry_run=options.dry_run))
