"""Files of imports that are taken in the background: stored before the import is recorded, removed when it has ended.

Owns the folder `imports` of the data directory: files of mode 0600 under names of our own. Schedulers of other machines
need the same folder (a shared file system); one without it leaves an import to those that have it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO
from uuid import UUID

from outrider.base.errors import Unavailable
from outrider.data.secret_file import make_private_folder

KEPT_S = 2400
"""Uploads that were never whole, and files that no import knows, are kept so long after the last byte was written."""

_WRITTEN_BYTES = 1_048_576
_WRITTEN_S = 60.0
"""What came in is written after so long, however little: a long file may trickle for hours, but not seem dead."""


class ImportFiles:
    """The files of imports below one data directory."""

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir / "imports"

    async def receive(self, stream: AsyncIterator[bytes]) -> Path:
        """Write an upload to a file of its own; nothing is left of one that did not arrive whole.

        Raises:  Unavailable(storage_full) when there is no room; whatever the stream raises.
        """
        path = self._folder / f"{secrets.token_hex(16)}.part"
        try:
            file = await asyncio.to_thread(self._create, path)
            with file:
                waiting, written_s = bytearray(), time.monotonic()
                async for chunk in stream:
                    waiting += chunk
                    if len(waiting) >= _WRITTEN_BYTES or (waiting and time.monotonic() - written_s >= _WRITTEN_S):
                        await asyncio.to_thread(_write, file, bytes(waiting))
                        waiting.clear()
                        written_s = time.monotonic()
                await asyncio.to_thread(_finish, file, bytes(waiting))
        except BaseException as error:
            path.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise _full(error) from error
            raise
        return path

    async def keep(self, upload: Path, tenant_id: UUID, import_id: UUID) -> None:
        """Give an upload its import's name, before the transaction that records the import commits.

        Raises:  Unavailable(storage_full).
        """
        try:
            await asyncio.to_thread(self._keep, upload, self.of(tenant_id, import_id))
        except OSError as error:
            raise _full(error) from error

    def of(self, tenant_id: UUID, import_id: UUID) -> Path:
        """Where an import's file is, if it is here."""
        return self._folder / f"{tenant_id}-{import_id}.csv"

    def sweep(self, known: set[Path]) -> None:
        """Remove what uploads left that were never whole, and files that no import under way knows."""
        if not self._folder.is_dir():
            return
        for path in self._folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if path not in known and time.time() - path.stat().st_mtime > KEPT_S:
                    path.unlink()

    def _create(self, path: Path) -> BinaryIO:
        make_private_folder(self._folder.parent)
        self._folder.mkdir(mode=0o700, exist_ok=True)
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")

    def _keep(self, upload: Path, path: Path) -> None:
        upload.replace(path)
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)  # the file must not be lost in a crash that the record survives
        finally:
            os.close(folder)


def _full(error: OSError) -> Unavailable:
    why = error.strerror or type(error).__name__
    return Unavailable("storage_full", f"the file cannot be stored ({why}); nothing was imported, try again later")


def _write(file: BinaryIO, part: bytes) -> None:
    file.write(part)
    file.flush()


def _finish(file: BinaryIO, rest: bytes) -> None:
    _write(file, rest)
    os.fsync(file.fileno())
