"""One person as a whole: merge two contacts, export everything about somebody, erase somebody."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import App, Parameter

from outrider.base.ids import parse_id
from outrider.data.db import Role
from outrider.domain.people import erase, export, making, merge
from outrider.domain.people.files import ExportFiles
from outrider.interfaces.cli import copying, named
from outrider.interfaces.cli.addressed import AnyChannel
from outrider.interfaces.cli.confirm import Yes, confirm
from outrider.interfaces.cli.doors import doors
from outrider.interfaces.cli.options import CHANGING, COMMON, Changing, Common, Limit
from outrider.interfaces.cli.output import Answer, facts, table
from outrider.interfaces.cli.progress import progress
from outrider.interfaces.cli.work import changing, looking, note, tenant_of, wired, within

APP = App(name="people")

Who = Annotated[str, Parameter(help="An address in any form, or the contact's id.")]


@APP.command(name="merge")
async def merge_(
    keep: Who, other: Who, *, channel: AnyChannel = None, yes: Yes = False, options: Changing = CHANGING
) -> Answer:
    """Make OTHER a part of KEEP: addresses, lists, tags, consent (a withdrawal wins), what was sent. For good.

    Example: `outrider people merge ann@example.org ann@work.example`
    """
    if not options.dry_run:
        confirm(f"{other} becomes a part of {keep}", "merge", yes=yes)
    async with changing(options, role=Role.ENGINE) as work:
        keep_id = (await named.contact(work.uow, keep, channel)).id
        other_id = (await named.contact(work.uow, other, channel)).id
        one = await merge.merge(work.uow, work.actor, keep_id, other_id, reason=options.reason)
    return Answer(msgspec.to_builtins(one), note(f"{other} is a part of {one.id} now", dry_run=options.dry_run))


@APP.command(name="export")
async def export_(who: Who, *, to: Path, channel: AnyChannel = None, options: Changing = CHANGING) -> Answer:
    """Write everything about a person to a JSON file (mode 0600), in this process; it is audited.

    Example: `outrider people export ann@example.org --to ann.json`

    Parameters
    ----------
    to
        The file; it must not exist yet.
    """
    copying.check_new(to)
    async with doors().runtime() as runtime:
        tenant_id = await tenant_of(runtime.db, options.tenant)
        async with within(runtime.db, tenant_id, dry_run=options.dry_run, reason=options.reason) as work:
            contact_id = (await named.contact(work.uow, who, channel)).id
            asked = await export.ask(work.uow, work.actor, contact_id)
        if options.dry_run:
            return Answer({"contact_id": str(contact_id)}, note(f"wrote {to}", dry_run=True))
        with progress("exporting", 0) as advance:

            async def told(count: int) -> None:
                advance(count)

            await making.write(runtime.db, runtime.settings, tenant_id, asked.id, told)
        async with within(runtime.db, tenant_id, reason=options.reason) as work:
            path = await export.fetch(work.uow, ExportFiles(runtime.settings.data_dir), work.actor, asked.id)
            done = await export.get(work.uow, asked.id)
        copying.copy(path, to)
    return Answer(msgspec.to_builtins(done), f"wrote {to}: {done.row_count} messages, {done.size_bytes} bytes")


@APP.command(name="erase")
async def erase_(who: Who, *, channel: AnyChannel = None, yes: Yes = False, options: Changing = CHANGING) -> Answer:
    """Erase a person: at once from contacts, by a job from what was sent. Nothing but the promise not to write stays.

    Give --reason without naming the person: it is kept for ever.

    Example: `outrider people erase ann@example.org --reason "asked by letter of 3 May"`
    """
    if not options.dry_run:
        confirm("everything about this person will be gone", "erase", yes=yes)
    async with wired(options, role=Role.ENGINE) as (runtime, work):
        contact_id = (await named.contact(work.uow, who, channel)).id
        begun = await erase.begin(work.uow, work.actor, contact_id, reason=options.reason)
        job = await runtime.jobs.enqueue(work.uow, work.actor, "erase_person", {"erasure_id": begun.id})
        begun = await erase.has_job(work.uow, begun.id, job.id)
    text = f"erased from contacts; erasure {begun.id}: job {job.id} takes the rest (a scheduler must run)"
    return Answer(msgspec.to_builtins(begun), note(text, dry_run=options.dry_run))


@APP.command
async def erasure(erasure_id: str, *, options: Common = COMMON) -> Answer:
    """Show how far an erasure is.

    Example: `outrider people erasure ID`
    """
    async with looking(options) as work:
        found = await erase.get(work.uow, parse_id(erasure_id, "erasure"))
    data = msgspec.to_builtins(found)
    return Answer(data, facts({**data, "contact_ids": ", ".join(data["contact_ids"])}))


@APP.command
async def erasures(*, limit: Limit = 100, options: Common = COMMON) -> Answer:
    """List erasures, newest first: ids and numbers, never who it was.

    Example: `outrider people erasures`
    """
    async with looking(options) as work:
        found = await erase.listed(work.uow, limit=limit)
    rows = [msgspec.to_builtins(each) for each in found]
    columns = ("id", "state", "message_count", "file_count", "reason", "created_by", "created_at", "finished_at")
    return Answer(rows, table(rows, columns, empty="nobody was erased"))
