"""Making the file of an export, whatever is in it: written whole before it is offered, dropped when nobody wants it."""

from __future__ import annotations

import asyncio
from uuid import UUID

import orjson

from outrider.base.errors import Refused
from outrider.base.settings import Settings
from outrider.contracts.jobs import JobContext
from outrider.data.db import Database, Role
from outrider.domain.people import tabular
from outrider.domain.people.export import Progress, failed, get, write_person
from outrider.domain.people.files import ExportFiles
from outrider.domain.people.rows import SQL


async def write_for(context: JobContext, export_id: UUID, what: str) -> int:
    """Write the file of an export as its job; an export that cannot be made any more is failed.

    Takes:   what: its progress is counted in.
    Raises:  as `write`.
    """
    runtime = context.runtime

    async def progress(count: int) -> None:
        await context.progress(count, None, what)

    try:
        return await write(runtime.db, runtime.settings, context.tenant_id, export_id, progress)
    except Refused as error:
        await failed(runtime.db, context.tenant_id, export_id, error.message)
        raise


async def write(db: Database, settings: Settings, tenant_id: UUID, export_id: UUID, progress: Progress) -> int:
    """Write the file of an export; once more writes it anew. Gives its messages, or its rows.

    Raises:  Refused(gone) when its person, or somebody who may be in it, was erased; Unavailable(storage_full).
    """
    files = ExportFiles(settings.data_dir)
    async with db.uow(Role.ENGINE, tenant_id) as uow:
        if await SQL.export_begun.value(uow.raw, tenant_id, export_id) is None:
            raise Refused("gone", "the export is not wanted any more", status=409)
        wanted = await get(uow, export_id)
        row = await SQL.export_get.one(uow.raw, tenant_id, export_id)
    options = orjson.loads(row["options"]) if row is not None else {}
    writing = await asyncio.to_thread(files.begin, tenant_id, export_id)
    try:
        if wanted.kind == "person":
            count = await write_person(db, tenant_id, wanted, writing, progress)
        else:
            count = await tabular.write(db, tenant_id, wanted.kind, options, writing, progress)
        whole = await asyncio.to_thread(writing.finish)
    finally:
        writing.drop()
    hours = settings.keep_export_files_hours
    async with db.uow(Role.ENGINE, tenant_id) as uow:
        key = (uow.raw, tenant_id, export_id, count, whole.size_bytes, whole.sha256, hours)
        is_wanted = await SQL.export_done.value(*key) is not None
    if not is_wanted:
        files.remove(tenant_id, [export_id])
        raise Refused("gone", "the person was erased while the file was written", status=409)
    return count
