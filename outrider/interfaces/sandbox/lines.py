"""The ledger of a sandbox that answers as a provider's API does: JSON lines, one writer, nothing lost by a kill.

Owns the file, its lock and the numbers of its entries; what an entry says is each sandbox's own.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Generic, TypeVar

import msgspec

from outrider.base.errors import Misconfigured

_BEGIN: Final = b'{"seq":'
"""How every line begins: a file whose end begins otherwise is none of ours, and nothing of it is cut off."""


class Numbered(msgspec.Struct, kw_only=True):
    """An entry; `seq` counts from 1 and is given by the ledger."""

    seq: int


Entry = TypeVar("Entry", bound=Numbered)


class Lines(Generic[Entry]):
    """The file, locked by its writer; what was answered survives a kill of the sandbox."""

    def __init__(self, path: Path, entry: type[Entry]) -> None:
        """Open or continue a ledger; half a last line, cut by a kill or a full disk, was never answered and goes.

        Raises:  Misconfigured when it cannot be opened, is no ledger of this kind, or another sandbox writes it.
        """
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _unusable(path, error.strerror) from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.entries = read(path, entry)
            self._mend(path)
        except (OSError, msgspec.DecodeError) as error:
            os.close(self._fd)
            raise _unusable(path, error.strerror if isinstance(error, OSError) else str(error)) from error
        self._encode = msgspec.json.Encoder().encode

    def _mend(self, path: Path) -> None:
        """Cut off what stands behind the last whole line."""
        said = path.read_bytes()
        whole = said.rfind(b"\n") + 1
        if said[whole:].startswith(_BEGIN[: len(said) - whole]):
            os.ftruncate(self._fd, whole)
        else:
            raise msgspec.DecodeError("its end is no entry")

    def add(self, entries: Sequence[Entry]) -> None:
        """Write entries down, all or none, then keep them.

        Raises:  OSError when they cannot be written, of which nothing stays in the file.
        """
        for number, entry in enumerate(entries, len(self.entries) + 1):
            entry.seq = number
        left = memoryview(b"".join(self._encode(entry) + b"\n" for entry in entries))
        before = os.fstat(self._fd).st_size
        try:
            while left:
                left = left[os.write(self._fd, left) :]
        except OSError:
            os.ftruncate(self._fd, before)
            raise
        self.entries += entries

    def close(self) -> None:
        """Release the file."""
        os.close(self._fd)


def read(path: Path, entry: type[Entry]) -> list[Entry]:
    """Every whole entry of a ledger."""
    decoder = msgspec.json.Decoder(entry)
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [decoder.decode(line) for line in lines]


def _unusable(path: Path, why: str | None) -> Misconfigured:
    return Misconfigured("ledger_unusable", f"{path}: {why}", field="ledger_path")
