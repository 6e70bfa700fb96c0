"""The ledger of the Twilio-shaped sandbox: one JSON line per request for a message, and per answer a phone got."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Literal

import msgspec

from outrider.base.errors import Misconfigured

Outcome = Literal["accepted", "accepted_cut", "refused", "cut", "reply", "delivered", "given_up"]
TAKEN = frozenset({"accepted", "accepted_cut"})


class Entry(msgspec.Struct, kw_only=True):
    """One request as the server saw it; `accepted_cut`: taken, and nobody was told; `reply`: what a phone got.

    `delivered`, `given_up`: what became of one that had to wait for its phone.
    """

    seq: int
    at_ns: int
    outcome: Outcome
    to: str
    from_: str = msgspec.field(name="from")
    text: str
    sid: str = ""
    status: int = 0
    code: int | None = None
    messaging_service_sid: str = ""
    status_callback: str = ""
    validity_period: int | None = None


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

    def add(self, entry: Entry) -> None:
        """Write an entry down, then keep it."""
        entry.seq = len(self.entries) + 1
        os.write(self._fd, self._encode(entry) + b"\n")
        self.entries.append(entry)

    def close(self) -> None:
        """Release the file."""
        os.close(self._fd)


def read(path: Path) -> list[Entry]:
    """Every whole entry of a ledger."""
    decoder = msgspec.json.Decoder(Entry)
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [decoder.decode(line) for line in lines]
