"""Exports: write contacts, lists, suppressions or consents to a CSV file; list what was asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import App, Parameter

from outrider.domain.contacts import lists
from outrider.domain.contacts.channels import channel_of
from outrider.domain.people import export, making, tabular
from outrider.domain.people.files import ExportFiles
from outrider.interfaces.cli import copying, named
from outrider.interfaces.cli.doors import doors
from outrider.interfaces.cli.options import CHANGING, COMMON, Changing, Common, Limit
from outrider.interfaces.cli.output import Answer, table
from outrider.interfaces.cli.progress import progress
from outrider.interfaces.cli.work import looking, note, tenant_of, within

APP = App(name="exports")


@APP.command(name="write")
async def write_(
    kind: tabular.Kind,
    *,
    to: Path,
    list_: Annotated[str | None, Parameter(name="--list")] = None,
    channel: str = "email",
    options: Changing = CHANGING,
) -> Answer:
    """Write a table of the tenant to a CSV file (mode 0600), in this process; it is audited.

    Cells that a spreadsheet would calculate get an apostrophe in front; `contacts import` takes it away again.

    Example: `outrider exports write contacts --to contacts.csv`

    Parameters
    ----------
    kind
        contacts; lists: who is on which; suppressions; consents: the whole proof.
    to
        The file; it must not exist yet.
    list_
        Of contacts only those on this list.
    channel
        Of contacts the channel whose address has a column of its own.
    """
    copying.check_new(to)
    async with doors().runtime() as runtime:
        channel_of(runtime.channels, channel, field="--channel")
        tenant_id = await tenant_of(runtime.db, options.tenant)
        async with within(runtime.db, tenant_id, dry_run=options.dry_run, reason=options.reason) as work:
            list_id = None
            if list_ is not None:
                page = lambda after, limit: lists.listed(work.uow, limit=limit, after=after)  # noqa: E731 - one use
                list_id = (await named.find(list_, "list", page, field="--list")).id
            asked = await tabular.ask(work.uow, work.actor, kind, list_id=list_id, channel=channel)
        if options.dry_run:
            return Answer({"kind": kind}, note(f"wrote {to}", dry_run=True))
        with progress("exporting", None) as advance:

            async def told(count: int) -> None:
                advance(count)

            await making.write(runtime.db, runtime.settings, tenant_id, asked.id, told)
        async with within(runtime.db, tenant_id, reason=options.reason) as work:
            path = await export.fetch(work.uow, ExportFiles(runtime.settings.data_dir), work.actor, asked.id)
            done = await export.get(work.uow, asked.id)
        copying.copy(path, to)
    return Answer(msgspec.to_builtins(done), f"wrote {to}: {done.row_count} rows, {done.size_bytes} bytes")


@APP.command(name="list")
async def list_exports(*, limit: Limit = 50, options: Common = COMMON) -> Answer:
    """List exports of people and of tables, newest first.

    Example: `outrider exports list`
    """
    async with looking(options) as work:
        found = await export.listed(work.uow, limit=limit)
    rows = [msgspec.to_builtins(each) for each in found]
    columns = ("id", "kind", "state", "row_count", "size_bytes", "created_by", "created_at", "expires_at")
    return Answer(rows, table(rows, columns, empty="no exports"))
