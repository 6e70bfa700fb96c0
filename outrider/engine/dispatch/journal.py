"""The worker's journal: an append-only local file that says which messages were begun and what became of them.

Written before the bytes leave, never fsynced: it serves kill -9, not power loss (then only the lease decides). A record
is `kind (1) length (1) payload crc32 (4)`; the first names boot, worker and process. Only the holder of the journal's
lock may believe that its writer is dead.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import structlog

from outrider.base.errors import Misconfigured
from outrider.contracts.outcome import Accepted, Deferred, Outcome, Rejected, Uncertain, Unsent
from outrider.data.secret_file import make_private_folder

_log = structlog.get_logger(__name__)
_OPEN, _CLAIM, _RENDER, _RENDERED, _BEGUN, _OUTCOME, _DONE, _DAMAGED = b"O", b"C", b"R", b"r", b"S", b"X", b"D", b"?"
_TOKEN = struct.Struct(">Q16s")
_PLAIN = struct.Struct(">cBQ16s")
_CRC = struct.Struct(">I")
_LONGEST_PAYLOAD = 255
_ROOM = _LONGEST_PAYLOAD - _TOKEN.size - 1
_ROTATE_BYTES = 8 << 20
_OUTCOMES: dict[str, type[Accepted | Deferred | Rejected | Uncertain | Unsent]] = {
    "A": Accepted,
    "D": Deferred,
    "R": Rejected,
    "U": Uncertain,
    "N": Unsent,
}
_TAGS = {kind: tag.encode() for tag, kind in _OUTCOMES.items()}
_FACTS = {kind: attrgetter(*kind.__slots__) for kind in _TAGS}


def boot_id() -> str:
    """Which start of this machine we live in; a journal of another boot proves nothing."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _unwritable(path: Path, error: OSError) -> Misconfigured:
    return Misconfigured("journal_unwritable", f"cannot write the journal {path}: {error.strerror}")


def _record(kind: bytes, payload: bytes) -> bytes:
    head = kind + bytes((len(payload),)) + payload
    return head + _CRC.pack(zlib.crc32(head))


def _plain(kind: bytes, token: int, owner: bytes) -> bytes:
    """A record of nothing but a token and an id (16 bytes)."""
    head = _PLAIN.pack(kind, _TOKEN.size, token, owner)
    return head + _CRC.pack(zlib.crc32(head))


class Journal:
    """The journal this worker writes. Every method appends to memory or file; none waits."""

    def __init__(self, folder: Path, worker_id: UUID) -> None:
        self.path = folder / f"{worker_id}.journal"
        try:
            make_private_folder(folder.parent)  # a folder that others may write is theirs to exchange what is in it
            folder.mkdir(exist_ok=True, mode=0o700)
            self._lock_fd = os.open(folder / f"{worker_id}.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise _unwritable(self.path, error) from error
        self._opening = _record(_OPEN, orjson.dumps([boot_id(), str(worker_id), os.getpid()]))
        self._fd = self._make(self.path, self._opening)
        self._size = len(self._opening)
        self._pending: list[bytes] = []
        self._open: dict[int, list[bytes]] = {}

    @staticmethod
    def _make(path: Path, content: bytes) -> int:
        flags = os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC
        try:
            fd = os.open(path, flags, 0o600)
            if os.write(fd, content) != len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # noqa: TRY301 - one way out for both
        except OSError as error:
            raise _unwritable(path, error) from error
        return fd

    def claim(self, token: int, tenant_id: UUID) -> None:
        """A claim under this token is about to be sent to the database."""
        self._open[token] = []
        self._keep(token, _plain(_CLAIM, token, tenant_id.bytes))
        self.flush()

    def rendering(self, token: int, tenant_id: UUID, *, is_over: bool) -> None:
        """The messages of a token are being turned into bytes (a crash now counts against them), or were."""
        self._keep(token, _plain(_RENDERED if is_over else _RENDER, token, tenant_id.bytes))
        self.flush()

    def begun(self, token: int, message_id: UUID) -> None:
        """The bytes of this message leave directly after this call returns."""
        self._keep(token, _plain(_BEGUN, token, message_id.bytes))
        self.flush()

    def outcome(self, token: int, message_id: UUID, outcome: Outcome) -> None:
        """What became of a message; in memory until the next flush. Long details are cut, a provider's id at last."""
        kind = type(outcome)
        facts = orjson.dumps(_FACTS[kind](outcome))
        if len(facts) > _ROOM:
            facts = _cut([*_FACTS[kind](outcome)])
        self._keep(token, _record(_OUTCOME, _TOKEN.pack(token, message_id.bytes) + _TAGS[kind] + facts))

    def done(self, token: int) -> None:
        """Everything claimed under this token is in the database."""
        self._open.pop(token, None)
        self._pending.append(_plain(_DONE, token, bytes(16)))
        if self._size > _ROTATE_BYTES:
            self._rotate()

    def flush(self) -> None:
        """Hand what is pending to the kernel in one write.

        Raises:  OSError when not all of it was written: the disk is full. The journal then proves nothing any more.
        """
        if self._pending:
            block = b"".join(self._pending)
            self._pending.clear()
            written = os.write(self._fd, block)
            self._size += written
            if written != len(block):
                raise OSError(errno.ENOSPC, "the journal was cut short")

    def close(self, *, is_settled: bool) -> None:
        """Close; with nothing open the files are removed, else they stay for whoever recovers."""
        self.flush()
        os.close(self._fd)
        if is_settled and not self._open:
            self.path.unlink(missing_ok=True)
            self.path.with_suffix(".lock").unlink(missing_ok=True)
        os.close(self._lock_fd)

    def _keep(self, token: int, record: bytes) -> None:
        self._pending.append(record)
        kept = self._open.get(token)
        if kept is not None:
            kept.append(record)

    def _rotate(self) -> None:
        """Start again with what is open; the new file takes the name in one step. Without room the old one stays."""
        content = self._opening + b"".join(record for records in self._open.values() for record in records)
        fresh = self.path.with_suffix(".next")
        try:
            fd = self._make(fresh, content)
            fresh.rename(self.path)
        except (Misconfigured, OSError) as error:
            _log.warning("journal_not_rotated", error=str(error))
            self._size = 0  # tried again after as much again
            return
        self._pending.clear()
        os.close(self._fd)
        self._fd = fd
        self._size = len(content)


def _cut(values: list[Any]) -> bytes:
    """The facts of an outcome that are too long for a record."""
    facts = b""
    for at, longest in ((1, 40), (1, 0), (0, 40)):
        if isinstance(values[at], str):
            values[at] = values[at][:longest]
        facts = orjson.dumps(values)
        if len(facts) <= _ROOM:
            break
    return facts[:_ROOM]


@dataclass(slots=True)
class DeadClaim:
    """What a dead worker's journal says about one token."""

    token: int
    tenant_id: UUID
    is_rendering: bool = False
    begun: set[UUID] = field(default_factory=set)
    outcomes: dict[UUID, Outcome] = field(default_factory=dict)


class DeadJournal:
    """A journal whose writer is gone, held under its lock while it is being recovered."""

    def __init__(self, path: Path, lock_fd: int) -> None:
        self.path = path
        self._lock_fd = lock_fd
        self.is_proof, self.claims = _read(path)

    @property
    def age_s(self) -> float:
        """Seconds since the last record was written."""
        return time.time() - self.path.stat().st_mtime

    def discard(self) -> None:
        """Remove the journal: everything in it is recorded."""
        self.path.unlink(missing_ok=True)
        self.path.with_suffix(".next").unlink(missing_ok=True)
        self.path.with_suffix(".lock").unlink(missing_ok=True)
        self.release()

    def release(self) -> None:
        """Let go of the lock; the journal stays."""
        os.close(self._lock_fd)


def abandoned(folder: Path) -> Iterator[DeadJournal]:
    """Journals of this machine whose writer's lock can be taken: the writer is dead. Discard or release each."""
    for path in sorted(folder.glob("*.journal")):
        lock = path.with_suffix(".lock")
        try:
            fd = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_ours = path.exists() and lock.exists() and os.fstat(fd).st_ino == lock.stat().st_ino
        except OSError:
            is_ours = False
        if not is_ours:
            os.close(fd)
            continue
        try:
            found = DeadJournal(path, fd)
        except OSError as error:
            _log.warning("journal_unreadable", journal=path.name, error=error.strerror)
            os.close(fd)
            continue
        yield found


def _read(path: Path) -> tuple[bool, list[DeadClaim]]:
    """Read a journal.

    Gives:   whether it proves what was not begun (same boot, whole but for a torn last record), and the open claims.
    """
    claims: dict[int, DeadClaim] = {}
    is_same_boot = is_whole = False
    for kind, payload in _records(path.read_bytes()):
        if kind == _OPEN:
            is_same_boot, is_whole = orjson.loads(payload)[0] == boot_id(), True
            continue
        if kind == _DAMAGED:
            is_whole = False
            continue
        token, raw_id = _TOKEN.unpack_from(payload)
        if kind == _CLAIM:
            claims[token] = DeadClaim(token, UUID(bytes=raw_id))
        elif kind == _DONE:
            claims.pop(token, None)
        elif token in claims:
            _take(claims[token], kind, UUID(bytes=raw_id), payload[_TOKEN.size :])
    return is_same_boot and is_whole, list(claims.values())


def _take(claim: DeadClaim, kind: bytes, message_id: UUID, rest: bytes) -> None:
    """Add one record to what is known of a claim."""
    if kind in (_RENDER, _RENDERED):
        claim.is_rendering = kind == _RENDER
    elif kind == _BEGUN:
        claim.begun.add(message_id)
        claim.outcomes.pop(message_id, None)  # begun anew by another connection: what the first came to is over
    elif kind == _OUTCOME:
        try:
            claim.outcomes[message_id] = _OUTCOMES[rest[:1].decode()](*orjson.loads(rest[1:]))
        except (KeyError, TypeError, UnicodeDecodeError, orjson.JSONDecodeError):
            is_accepted = rest[:1] == _TAGS[Accepted]
            claim.outcomes[message_id] = Accepted() if is_accepted else Uncertain("answer_lost", "detail was cut")


def _records(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Whole records, then `_DAMAGED` unless the file ends with one or within one: a torn last record is not damage."""
    at = 0
    while at < len(data):
        found = _whole(data, at)
        if found is None:
            # a torn record is the last thing written; with a whole one behind it, it is its length that is damaged
            if not _is_torn(data, at) or any(_whole(data, later) for later in range(at + 1, len(data))):
                yield _DAMAGED, b""
            return
        yield found
        at += 6 + len(found[1])


def _is_torn(data: bytes, at: int) -> bool:
    """Whether the file ends within the record that begins here; all kinds but two are of one length."""
    if at + 2 > len(data):
        return True
    is_length_sound = data[at : at + 1] in (_OPEN, _OUTCOME) or data[at + 1] == _TOKEN.size
    return is_length_sound and at + 6 + data[at + 1] > len(data)


def _whole(data: bytes, at: int) -> tuple[bytes, bytes] | None:
    """The record that begins here, if its checksum says so."""
    end = at + 2 + data[at + 1] if at + 1 < len(data) else len(data)
    if end + 4 > len(data) or _CRC.unpack_from(data, end)[0] != zlib.crc32(data[at:end]):
        return None
    return data[at : at + 1], data[at + 2 : end]
