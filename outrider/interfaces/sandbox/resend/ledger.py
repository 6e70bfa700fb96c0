"""The ledger of the Resend-shaped sandbox: one JSON line per email of a request, all of a request in one write."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from outrider.base.errors import Misconfigured

Outcome = Literal["accepted", "accepted_cut", "refused", "cut", "replayed", "conflict"]
TAKEN = frozenset({"accepted", "accepted_cut"})


class Entry(msgspec.Struct, kw_only=True):
    """One email as the server saw it; `accepted_cut`: taken, and nobody was told; `replayed`: its key was known.

    request   which request it came in; `digest` of its body
    email     as it was posted, attachments without their content
    """

    seq: int
    at_ns: int
    outcome: Outcome
    to: str
    request: int
    key: str = ""
    digest: str = ""
    id: str = ""
    status: int = 0
    name: str = ""
    email: dict[str, Any] = {}


class Ledger:
    """The file, locked by its writer; what was answered survives a kill of the sandbox."""

    def __init__(self, path: Path) -> None:
        """Open or continue a ledger.

        Raises:  Misconfigured when it cannot be opened, or another sandbox writes it.
        """
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Misconfigured("ledger_unusable", f"{path}: {error.strerror}", field="ledger_path") from error
        self.entries = read(path)
        self._encode = msgspec.json.Encoder().encode

    def add(self, entries: Sequence[Entry]) -> None:
        """Write entries down, then keep them."""
        for number, entry in enumerate(entries, len(self.entries) + 1):
            entry.seq = number
        os.write(self._fd, b"".join(self._encode(entry) + b"\n" for entry in entries))
        self.entries += entries

    def close(self) -> None:
        """Release the file."""
        os.close(self._fd)


def read(path: Path) -> list[Entry]:
    """Every whole entry of a ledger."""
    decoder = msgspec.json.Decoder(Entry)
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [decoder.decode(line) for line in lines]
