"""The capture mail server's ledger, read as any other program would: JSON lines on disk.

Owns tailing the file; knows only the fields it needs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

TAKEN: Final = frozenset({"accepted", "dropped_after_dot"})


class Record(msgspec.Struct, frozen=True):
    """One attempt to hand over a message to one recipient, as the server saw it; `boot_ns` is CLOCK_BOOTTIME."""

    seq: int
    outcome: str
    boot_ns: int
    rcpt_to: str | None
    outrider_ids: dict[str, str]

    @property
    def message_id(self) -> str:
        """The product's id of the message."""
        return self.outrider_ids.get("message", "")

    @property
    def is_taken(self) -> bool:
        """Whether the server took responsibility."""
        return self.outcome in TAKEN


class Ledger:
    """A ledger that is being written. `read` takes what is new; `records` has everything read so far."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._decoder = msgspec.json.Decoder(Record)
        self.records: list[Record] = []
        self.taken_count = 0

    def read(self) -> list[Record]:
        """Records written since the last call; a half-written line waits."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        fresh = [self._decoder.decode(line) for line in whole.splitlines()]
        self.records.extend(fresh)
        self.taken_count += sum(record.is_taken for record in fresh)
        return fresh
