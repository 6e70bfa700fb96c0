"""The ledger of a sandbox that answers as a provider's API does: JSON lines, one writer, nothing lost by a kill.

Owns the file, its lock and the numbers of its entries; what an entry says is each sandbox's own.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from outrider.base.errors import Misconfigured


class Numbered(msgspec.Struct, kw_only=True):
    """An entry; `seq` counts from 1 and is given by the ledger."""

    seq: int


Entry = TypeVar("Entry", bound=Numbered)


class Lines(Generic[Entry]):
    """The file, locked by its writer; what was answered survives a kill of the sandbox."""

    def __init__(self, path: Path, entry: type[Entry]) -> None:
        """Open or continue a ledger.

        Raises:  Misconfigured when it cannot be opened, or another sandbox writes it.
        """
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Misconfigured("ledger_unusable", f"{path}: {error.strerror}", field="ledger_path") from error
        self.entries = read(path, entry)
        self._encode = msgspec.json.Encoder().encode

    def add(self, entries: Sequence[Entry]) -> None:
        """Write entries down in one write, then keep them."""
        for number, entry in enumerate(entries, len(self.entries) + 1):
            entry.seq = number
        os.write(self._fd, b"".join(self._encode(entry) + b"\n" for entry in entries))
        self.entries += entries

    def close(self) -> None:
        """Release the file."""
        os.close(self._fd)


def read(path: Path, entry: type[Entry]) -> list[Entry]:
    """Every whole entry of a ledger."""
    decoder = msgspec.json.Decoder(entry)
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [decoder.decode(line) for line in lines]
