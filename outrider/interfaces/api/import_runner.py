"""Imports that run in the API's own process: their files, their tasks, and going on with them after a restart.

Owns the folder `imports` of the data directory: files of mode 0600 under names of our own, removed when their import
has ended, or after an hour when nobody knows them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, BinaryIO
from uuid import UUID

import structlog
from litestar import Litestar

from outrider.base.errors import OutriderError, Unavailable
from outrider.data.db import Role, UnitOfWork
from outrider.data.runtime import Runtime
from outrider.data.secret_file import make_private_folder
from outrider.domain.contacts.imports import control
from outrider.domain.contacts.imports.control import ABANDONED_AFTER_S, ImportView
from outrider.domain.contacts.imports.run import run

_log = structlog.get_logger(__name__)
_KEY = "import_runner"
_AT_ONCE = 2
_AGAIN_AFTER_S = 5.0
_WRITTEN_BYTES = 1_048_576


class ImportRunner:
    """The imports of one API process."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._folder = runtime.settings.data_dir / "imports"
        self._tasks: dict[UUID, asyncio.Task[None]] = {}
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._beginning: asyncio.Task[None] | None = None

    def begin_with(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something first, in the background."""
        self._beginning = asyncio.create_task(work, name="resume imports")

    async def receive(self, stream: AsyncIterator[bytes]) -> Path:
        """Write an upload to a file of its own; nothing is left of one that did not arrive whole.

        Raises:  Unavailable(storage_full) when there is no room; whatever the stream raises.
        """
        path = self._folder / f"{secrets.token_hex(16)}.part"
        try:
            file = await asyncio.to_thread(self._create, path)
            with file:
                waiting = bytearray()
                async for chunk in stream:
                    waiting += chunk
                    if len(waiting) >= _WRITTEN_BYTES:
                        await asyncio.to_thread(file.write, bytes(waiting))
                        waiting.clear()
                await asyncio.to_thread(file.write, bytes(waiting))
        except BaseException as error:
            path.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise Unavailable("storage_full", "the file cannot be stored now; try again later") from error
            raise
        return path

    async def begin(self, uow: UnitOfWork, upload: Path, recorded: Awaitable[ImportView]) -> ImportView:
        """Record an import and give its file the import's name, in the transaction that makes the record."""
        view = await recorded
        await asyncio.to_thread(upload.replace, self._path(uow.tenant, view.id))
        return view

    def start(self, tenant_id: UUID, import_id: UUID) -> None:
        """Run an import in the background, once."""
        if import_id in self._tasks:
            return
        task = asyncio.create_task(self._run(tenant_id, import_id), name=f"import {import_id}")
        self._tasks[import_id] = task
        task.add_done_callback(lambda _done: self._tasks.pop(import_id, None))

    async def resume(self) -> None:
        """Go on with imports that a process with this data directory left, and give up those without a file."""
        async with self._runtime.db.uow(Role.ENGINE) as uow:
            waiting = await control.unfinished(uow)
        known = set()
        for one in waiting:
            path = self._path(one.tenant_id, one.import_id)
            if path.exists():
                known.add(path)
                self.start(one.tenant_id, one.import_id)
            elif one.is_abandoned:
                async with self._runtime.db.uow(Role.ENGINE, one.tenant_id) as uow:
                    await control.fail(uow, one.import_id, "its process ended and its file is gone; import it again")
        await asyncio.to_thread(self._sweep, known)

    async def resume_if_possible(self) -> None:
        """`resume`, but a database that is away only delays it to the next start."""
        try:
            await self.resume()
        except Unavailable:
            _log.warning("imports_not_resumed", reason="the database is away")

    async def close(self) -> None:
        """Stop after the batch under way; the next process goes on from there."""
        if self._beginning is not None:
            await self._beginning
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, tenant_id: UUID, import_id: UUID) -> None:
        path = self._path(tenant_id, import_id)
        while True:
            try:
                async with self._turns:
                    view = await run(self._runtime.db, self._runtime.channels, tenant_id, import_id, path)
            except Unavailable:
                await asyncio.sleep(_AGAIN_AFTER_S)
                continue
            except OutriderError as error:
                _log.warning("import_failed", import_id=str(import_id), code=error.code)
            except Exception:  # noqa: BLE001 - a bug ends one import, with its trace in the log, and not the process
                _log.exception("import_broken", import_id=str(import_id))
            else:
                _log.info("import_ended", import_id=str(import_id), state=view.state, row_count=view.row_count)
                if view.state == "running":  # another process has taken it over, with a file of its own
                    return
            path.unlink(missing_ok=True)
            return

    def _path(self, tenant_id: UUID, import_id: UUID) -> Path:
        return self._folder / f"{tenant_id}-{import_id}.csv"

    def _create(self, path: Path) -> BinaryIO:
        make_private_folder(self._folder.parent)
        self._folder.mkdir(mode=0o700, exist_ok=True)
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")

    def _sweep(self, known: set[Path]) -> None:
        """Remove what uploads left that were never whole, and files whose import has ended."""
        if not self._folder.is_dir():
            return
        for path in self._folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if path not in known and time.time() - path.stat().st_mtime > ABANDONED_AFTER_S:
                    path.unlink()


def runner_of(app: Litestar, runtime: Runtime) -> ImportRunner:
    """The runner of a process; made at its first use, it goes on with what was left."""
    found: ImportRunner | None = app.state.get(_KEY)
    if found is None:
        found = app.state[_KEY] = ImportRunner(runtime)
        found.begin_with(found.resume_if_possible())
    return found


def lifespan(runtime: Runtime) -> Callable[[Litestar], AbstractAsyncContextManager[None]]:
    """For the application's `lifespan`: go on with what was left at the start, stop in order at the end."""

    @asynccontextmanager
    async def running(app: Litestar) -> AsyncIterator[None]:
        runner = runner_of(app, runtime)
        try:
            yield
        finally:
            await runner.close()

    return running
