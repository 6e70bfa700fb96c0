"""Imports and the jobs that take them: neither is left behind by the other.

Owns bringing an import to its end whose job has ended otherwise (cancelled before it began, out of attempts, poison),
giving one a job that has none (uploaded by an earlier release), and removing files that no import needs.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final
from uuid import UUID

from outrider.base.errors import Refused
from outrider.contracts.actor import Actor
from outrider.data.db import Role, UnitOfWork
from outrider.data.runtime import Runtime
from outrider.domain.contacts.imports import control
from outrider.domain.contacts.imports.control import ImportView
from outrider.domain.contacts.imports.files import ImportFiles
from outrider.domain.contacts.rows import UNDO
from outrider.domain.jobs import change, search
from outrider.domain.jobs.views import Job
from outrider.domain.people import undo
from outrider.engine.loop import Loop

EVERY_S: Final = 600.0
"""How often a process that takes uploads looks; with `files.KEPT_S` what an upload left is gone within the hour."""
KEY = "import_contacts"
UNDO_KEY = "undo_import"
_ACTOR = Actor("system", "imports")
_GONE = "its process ended and its file is gone; import it again"


async def job_of(uow: UnitOfWork, import_id: UUID) -> Job | None:
    """The job that took an import last, or takes it; None for one that was imported by the command line."""
    wanted = search.Filter(types=[KEY], argument={"import_id": str(import_id)})
    return next(iter(await search.find(uow, wanted, limit=1)), None)


async def cancel(uow: UnitOfWork, actor: Actor, import_id: UUID) -> tuple[ImportView, UUID | None]:
    """Stop an import after the batch under way, and its job, if it has one; what was imported stays. Audited.

    Gives:   the import and the job; cancelling twice changes nothing. `forget_file` is the caller's, after the commit.
    Raises:  Refused(not_found); Refused(not_running, 409) when it came to another end.
    """
    job = await job_of(uow, import_id)
    if job is not None and job.finished_at is None:
        with contextlib.suppress(Refused):  # it has ended meanwhile: what became of the import is said below
            await change.cancel(uow, actor, job.id, "the import was cancelled")
    return await control.cancel(uow, actor, import_id), job.id if job is not None else None


async def forget_file(runtime: Runtime, tenant_id: UUID, import_id: UUID) -> None:
    """Remove the file of an import that has ended, if it is on this machine."""
    path = ImportFiles(runtime.settings.data_dir).of(tenant_id, import_id)
    await asyncio.to_thread(path.unlink, missing_ok=True)


async def enqueue_undo(uow: UnitOfWork, runtime: Runtime, actor: Actor, import_id: UUID, count: int) -> ImportView:
    """Give an undo that was begun its job, in the same transaction."""
    arguments = {"import_id": import_id, "count": count}
    job = await runtime.jobs.enqueue(uow, actor, UNDO_KEY, arguments, dedup_key=str(import_id))
    return await undo.has_job(uow, import_id, job.id)


async def settle_undo_of(uow: UnitOfWork, import_id: UUID) -> None:
    """Bring an undo to where its job is: one that ended before it could say so lets it be begun again."""
    view = await control.get(uow, import_id)
    if view.undo_state != "running" or view.undo_job_id is None:
        return
    job = await search.look(uow, view.undo_job_id)
    if job is None or job.state in {"deleted", "failed"}:
        await undo.end(uow, import_id, "cancelled" if job is not None and job.state == "deleted" else "failed")


async def settle(runtime: Runtime) -> int:
    """Look at every import and undo that is not at its end, then remove the files that none of them needs.

    Gives:   how many are not at their end.
    """
    files = ImportFiles(runtime.settings.data_dir)
    async with runtime.db.uow(Role.ENGINE) as uow:
        waiting = await control.unfinished(uow)
    for one in waiting:
        async with runtime.db.uow(Role.ENGINE, one.tenant_id) as uow:
            await settle_one(uow, runtime, one)
    async with runtime.db.uow(Role.ENGINE) as uow:
        undoing = await UNDO.undoing.many(uow.raw)
    for row in undoing:
        async with runtime.db.uow(Role.ENGINE, row["tenant_id"]) as uow:
            await settle_undo_of(uow, row["id"])
    await asyncio.to_thread(files.sweep, {files.of(one.tenant_id, one.import_id) for one in waiting})
    return len(waiting)


async def settle_one(uow: UnitOfWork, runtime: Runtime, one: control.Unfinished) -> None:
    """Bring one import to where its job is."""
    path = ImportFiles(runtime.settings.data_dir).of(one.tenant_id, one.import_id)
    job = await job_of(uow, one.import_id)
    if job is not None and job.finished_at is None:
        return
    if job is not None and job.state == "deleted":
        await control.withdraw(uow, one.import_id)
    elif job is not None and job.state == "failed":
        await control.fail(uow, one.import_id, job.error or job.reason)
    elif await asyncio.to_thread(path.exists):
        await runtime.jobs.enqueue(uow, _ACTOR, KEY, {"import_id": one.import_id}, dedup_key=str(one.import_id))
        return
    elif one.is_abandoned:
        await control.fail(uow, one.import_id, _GONE)
    else:
        return
    await asyncio.to_thread(path.unlink, missing_ok=True)


def settling(runtime: Runtime) -> Loop:
    """For processes that take uploads: `settle` at their start, for what a former one left, then again and again."""

    async def step() -> bool:
        await settle(runtime)
        return False

    return Loop("settle_imports", EVERY_S, step)
