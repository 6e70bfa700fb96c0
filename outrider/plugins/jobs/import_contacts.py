"""Import a stored CSV file: from its checkpoint to its end, with progress, cancelled from either side.

Owns nothing but the bridge between a job and `domain.contacts.imports`; every batch is bound to the job's run, so that
a run that was taken over stores nothing more.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from uuid import UUID

import msgspec
import structlog

from outrider.base.errors import OutriderError, Refused, Unavailable
from outrider.contracts.jobs import JobContext, JobType, Superseded
from outrider.data.db import Role, UnitOfWork
from outrider.domain.contacts.imports import control, run
from outrider.domain.contacts.imports.control import ImportView
from outrider.domain.contacts.imports.files import ImportFiles

_MOST_ATTEMPTS = 10
"""Of which each but the last is for a database that is away, or a file that another machine has."""

_TRIES_OF_A_BUG = 3
_log = structlog.get_logger(__name__)


class Arguments(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Which import."""

    import_id: UUID


class _Run(run.Watch):
    """Binds each batch to the run, and says how far it is."""

    def __init__(self, context: JobContext) -> None:
        self._context = context

    async def hold(self, uow: UnitOfWork) -> None:
        """See `Watch`."""
        await self._context.hold(uow)

    async def stored(self, view: ImportView) -> None:
        """See `Watch`."""
        await self._context.progress(view.row_count, view.total_count, "rows")


async def _work(context: JobContext, arguments: Arguments) -> dict[str, object]:
    """Take the import to its end; then its file is gone.

    Gives:   its state and counts.
    Raises:  Refused when the import failed; Unavailable when the file is not on this machine: another scheduler may
             have it.
    """
    db, tenant_id = context.runtime.db, context.tenant_id
    path = ImportFiles(context.runtime.settings.data_dir).of(tenant_id, arguments.import_id)
    async with db.uow(Role.ENGINE, tenant_id) as uow:
        view = await control.get(uow, arguments.import_id)
    if view.state == "running":
        if not await asyncio.to_thread(path.exists):
            await _without_file(context, arguments.import_id)
        try:
            view = await _taken(context, view.id, path)
        except asyncio.CancelledError:
            if context.is_cancelled:
                await asyncio.shield(_withdraw(context, view.id, path))
            raise
        except Refused:
            await asyncio.to_thread(path.unlink, missing_ok=True)
            raise
    if view.state == "running":
        raise Unavailable("import_taken", "another process is taking this import; looked at again later")
    await asyncio.to_thread(path.unlink, missing_ok=True)
    if view.state == "failed":
        raise Refused("import_failed", view.error or "the import failed", field="/import_id")
    counts = {name: value for name, value in msgspec.to_builtins(view).items() if name.endswith("_count")}
    return {"state": view.state, **counts}


async def _taken(context: JobContext, import_id: UUID, path: Path) -> ImportView:
    """The import after a run.

    Raises:  as `run.run`; a bug is tried again twice, then it is final.
    """
    runtime = context.runtime
    is_last_try = context.attempt >= _TRIES_OF_A_BUG
    try:
        return await run.run(
            runtime.db, runtime.channels, context.tenant_id, import_id, path,
            watch=_Run(context), is_last_try=is_last_try,
        )  # fmt: skip
    except (OutriderError, Superseded):
        raise
    except Exception as error:
        if not is_last_try:
            raise
        _log.exception("import_broken", import_id=str(import_id))
        raise Refused("import_failed", "an internal error; see the log", field="/import_id") from error


async def _without_file(context: JobContext, import_id: UUID) -> None:
    """Leave it to a scheduler that has the file; at the last attempt the import is over.

    Raises:  always.
    """
    reason = "its file is on no machine that runs jobs; import it again"
    if context.attempt < _MOST_ATTEMPTS:
        raise Unavailable("import_file_elsewhere", "the file is not in this machine's data directory")
    async with context.runtime.db.uow(Role.ENGINE, context.tenant_id) as uow:
        await control.fail(uow, import_id, reason)
    raise Refused("no_file", reason, field="/import_id")


async def _withdraw(context: JobContext, import_id: UUID, path: Path) -> None:
    async with context.runtime.db.uow(Role.ENGINE, context.tenant_id) as uow:
        await control.withdraw(uow, import_id)
    await asyncio.to_thread(path.unlink, missing_ok=True)


JOB = JobType(
    key="import_contacts",
    title="Import contacts from a CSV file",
    queue="import",
    run=_work,
    arguments=Arguments,
    timeout_s=6 * 3600,
    max_attempts=_MOST_ATTEMPTS,
    retry_first_s=2.0,
    retry_most_s=120.0,
)
