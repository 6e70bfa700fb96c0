"""Reading a ledger while it is being written, or afterwards: what demo and drills compare with the database.

Owns searching, tailing and counting; never writes and needs no running sandbox. A cut last line is left for later.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

from outrider.interfaces.sandbox.ledger import Record, bodies_path, decode

_BLOCK_BYTES: Final = 1 << 18
_MOST_SCANNED_BYTES: Final = 1 << 28
"""`latest` looks back so far and no further, so that a page about a huge ledger still answers."""


class LedgerReader:
    """A ledger by its path; the file may not exist yet. Each reader has a place of its own for `read_new`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0

    def __iter__(self) -> Iterator[Record]:
        """Every whole record from the beginning.

        Raises:  Broken(ledger_damaged) when a line in the middle is no record.
        """
        offset = 0
        try:
            with self.path.open("rb") as file:
                for line in file:
                    if not line.endswith(b"\n"):
                        return
                    yield decode(line, offset)
                    offset += len(line)
        except FileNotFoundError:
            return

    def read_new(self) -> list[Record]:
        """Whole records written since the last call (at first: since the beginning)."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        records = [decode(line, self._offset) for line in whole.splitlines()]
        self._offset += len(whole)
        return records

    async def follow(self, *, poll_s: float = 0.02) -> AsyncIterator[Record]:
        """Records as they come, for ever; cancel to end."""
        while True:
            for record in self.read_new():
                yield record
            await asyncio.sleep(poll_s)

    def taken(self) -> Iterator[Record]:
        """Records of messages the sandbox took responsibility for, answered or not."""
        return (record for record in self if record.is_taken)

    def find(self, *, rcpt_to: str | None = None, message_id: str | None = None) -> list[Record]:
        """Records of one recipient, of one Message-ID (angle brackets included), or of both; oldest first."""
        return [record for record in self if _is_asked_for(record, rcpt_to, message_id)]

    def latest(self, count: int, *, rcpt_to: str | None = None) -> list[Record]:
        """The last `count` records, newest first, read from the end; looks back 256 MiB at most."""
        found: list[Record] = []
        mark = _mark(rcpt_to)
        for offset, line in self._lines_backwards():
            if mark is not None and mark not in line.lower():
                continue
            record = decode(line, offset)
            if _is_asked_for(record, rcpt_to, None):
                found.append(record)
            if len(found) >= count:
                break
        return found

    def by_seq(self, seq: int) -> Record | None:
        """One record by its number; a binary search over the file."""
        try:
            with self.path.open("rb") as file:
                return _search(file, seq, file.seek(0, 2))
        except FileNotFoundError:
            return None

    def body(self, record: Record, *, most_bytes: int | None = None) -> bytes | None:
        """The bytes of a message (or its first `most_bytes`), when the sandbox was told to keep them."""
        if record.body_offset is None or record.body_bytes is None:
            return None
        size = record.body_bytes if most_bytes is None else min(record.body_bytes, most_bytes)
        try:
            with bodies_path(self.path).open("rb") as file:
                file.seek(record.body_offset)
                data = file.read(size)
        except FileNotFoundError:
            return None
        return data if len(data) == size else None

    def count_by_message_id(self) -> Counter[str]:
        """How often each Message-ID was taken, counted per recipient record; messages without one are left out."""
        return count_by_message_id(self)

    def duplicates(self) -> dict[tuple[str, str], int]:
        """Deliveries that were taken more than once: (Message-ID, recipient) -> times, at least 2."""
        times: Counter[tuple[str, str]] = Counter(
            (record.message_id, record.rcpt_to)
            for record in self.taken()
            if record.message_id is not None and record.rcpt_to is not None
        )
        return {delivery: count for delivery, count in times.items() if count > 1}

    def _lines_backwards(self) -> Iterator[tuple[int, bytes]]:
        """Whole lines with their offsets, last first."""
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return
        with file:
            start = end = file.seek(0, 2)
            rest = b""
            is_end_cut = True
            while start and end - start < _MOST_SCANNED_BYTES:
                block = min(_BLOCK_BYTES, start)
                start -= block
                file.seek(start)
                lines = (file.read(block) + rest).split(b"\n")
                if is_end_cut:  # what follows the last line feed is empty or half a record
                    lines.pop()
                    is_end_cut = not lines
                    if is_end_cut:
                        continue
                rest = lines[0]
                offset = start + sum(map(len, lines)) + len(lines)
                for line in reversed(lines[1:]):
                    offset -= len(line) + 1
                    yield offset, line
            if start == 0 and rest:
                yield 0, rest


def count_by_message_id(records: Iterable[Record]) -> Counter[str]:
    """How often each Message-ID was taken among these records; those without one are left out."""
    return Counter(record.message_id for record in records if record.is_taken and record.message_id is not None)


def _mark(rcpt_to: str | None) -> bytes | None:
    """Bytes that a line about this recipient must hold, so that most lines need no decoding; None: any line may."""
    if rcpt_to is None or not rcpt_to.isascii() or '"' in rcpt_to or "\\" in rcpt_to:
        return None
    return rcpt_to.lower().encode()


def _is_asked_for(record: Record, rcpt_to: str | None, message_id: str | None) -> bool:
    if rcpt_to is not None and (record.rcpt_to is None or record.rcpt_to.casefold() != rcpt_to.casefold()):
        return False
    return message_id is None or record.message_id == message_id


def _search(file: BinaryIO, seq: int, size: int) -> Record | None:
    """Bisect byte positions for the first line whose number is at least `seq`: numbers rise with the offset."""
    low, high = 0, size
    while low < high:
        middle = (low + high) // 2
        record = _record_from(file, middle)
        if record is None or record.seq >= seq:
            high = middle
        else:
            low = middle + 1
    record = _record_from(file, low)
    return record if record is not None and record.seq == seq else None


def _record_from(file: BinaryIO, position: int) -> Record | None:
    """The first whole record that begins at `position` or later."""
    file.seek(max(0, position - 1))
    if position:
        file.readline()
    offset = file.tell()
    line = file.readline()
    return decode(line, offset) if line.endswith(b"\n") else None
