"""Files of exports: written whole before they are offered, removed when their time is over or their person was erased.

Owns the folder `exports` of the data directory: mode 0600, names of our own. The API that gives a file out needs the
folder of the scheduler that wrote it (a shared file system where they are several machines).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from outrider.base.errors import Unavailable
from outrider.data.secret_file import make_private_folder

LEAST_FREE_BYTES = 256 * 1024 * 1024
"""An export does not begin with less room than this [S4-42]."""


@dataclass(frozen=True, slots=True)
class Written:
    """A whole file."""

    size_bytes: int
    sha256: bytes


class Writing:
    """A file being written; nobody sees it before `finish`."""

    def __init__(self, folder: Path, path: Path) -> None:
        self._folder = folder
        self._path = path
        self._part = folder / f"{secrets.token_hex(16)}.part"
        self._file = os.fdopen(os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
        self._hash = hashlib.sha256()
        self.size_bytes = 0

    def write(self, chunk: bytes) -> None:
        """Add some bytes.

        Raises:  Unavailable(storage_full).
        """
        try:
            self._file.write(chunk)
        except OSError as error:
            raise _full() from error
        self._hash.update(chunk)
        self.size_bytes += len(chunk)

    def finish(self) -> Written:
        """Put the whole file in its place.

        Raises:  Unavailable(storage_full).
        """
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._part.replace(self._path)
        except OSError as error:
            raise _full() from error
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return Written(self.size_bytes, self._hash.digest())

    def drop(self) -> None:
        """Leave nothing behind; harmless after `finish`."""
        with contextlib.suppress(OSError):
            self._file.close()
        self._part.unlink(missing_ok=True)


class ExportFiles:
    """The files of exports below one data directory."""

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir / "exports"

    def of(self, tenant_id: UUID, export_id: UUID) -> Path:
        """Where the file of an export is, if it is here."""
        return self._folder / f"export-{tenant_id}-{export_id}"

    def begin(self, tenant_id: UUID, export_id: UUID) -> Writing:
        """Begin a file.

        Raises:  Unavailable(storage_full) when there is too little room for any export.
        """
        try:
            make_private_folder(self._folder.parent)
            self._folder.mkdir(mode=0o700, exist_ok=True)
            if shutil.disk_usage(self._folder).free < LEAST_FREE_BYTES:
                raise _full()
            return Writing(self._folder, self.of(tenant_id, export_id))
        except OSError as error:
            raise _full() from error

    def remove(self, tenant_id: UUID, export_ids: Iterable[UUID]) -> int:
        """Remove files. Gives how many there were."""
        count = 0
        for export_id in export_ids:
            path = self.of(tenant_id, export_id)
            count += path.exists()
            path.unlink(missing_ok=True)
        return count

    def sweep(self, wanted: Collection[Path], *, older_than: float) -> int:
        """Remove what no export that is wanted has, and parts that were left, last written before a moment."""
        count = 0
        for path in self._folder.iterdir() if self._folder.is_dir() else ():
            with contextlib.suppress(FileNotFoundError):
                if path not in wanted and path.stat().st_mtime < older_than:
                    path.unlink()
                    count += 1
        return count


def _full() -> Unavailable:
    return Unavailable("storage_full", "there is too little room for an export on this machine; try again later")
