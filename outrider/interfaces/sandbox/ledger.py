"""The ledger on disk: one JSON line per recipient of every message that was taken, refused, deferred or dropped.

Owns the record's shape, the append-only file, the optional file of bodies and the order "written, then answered".
Never answers a client and never rewrites a record: what an earlier process left half-written at the end is cut off.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal, Protocol

import msgspec

from outrider.base.errors import Broken, Misconfigured

Outcome = Literal["accepted", "refused", "deferred", "dropped_before_dot", "dropped_after_dot"]

TAKEN: Final = frozenset({"accepted", "dropped_after_dot"})
"""Outcomes in which the sandbox took responsibility for the message, answered or not."""

_TAIL_BLOCK_BYTES: Final = 1 << 16


class Record(msgspec.Struct, kw_only=True, gc=False):
    """One attempt to hand over a message to one recipient, as the server saw it.

    `at_ns` is the wall clock, `boot_ns` CLOCK_BOOTTIME (comparable between processes of one machine), both read when
    the verdict fell. `stage` is where it fell: banner, ehlo, mail, rcpt, data, before_dot, dot, after_dot. `sha256`
    and `size_bytes` are of the message after dot-unstuffing: exactly what the client wanted delivered. `queue_id` is
    what the 250 answer named; all recipients of a message share it. `message_id` keeps its angle brackets.
    """

    seq: int
    at_ns: int
    boot_ns: int
    outcome: Outcome
    stage: str
    mail_from: str | None
    rcpt_to: str | None
    message_id: str | None
    outrider_ids: dict[str, str]
    """`X-Outrider-…` headers: lower-case name without the prefix -> value; `message` is the message's id."""
    size_bytes: int
    sha256: str | None
    session: str
    queue_id: str | None
    is_tls: bool
    auth_user: str | None
    mail_params: str
    """The ESMTP parameters of MAIL as the client wrote them."""
    reply: str
    fault: str | None
    """Name of the fault rule that decided or delayed, if one did."""
    body_offset: int | None = None
    body_bytes: int | None = None

    @property
    def is_taken(self) -> bool:
        """Whether the sandbox took responsibility for the message (answered or not)."""
        return self.outcome in TAKEN


class Owner(Protocol):
    """Who waits for records to be on disk."""

    def on_written(self) -> None:
        """Some of your tickets are settled; called once per flush."""
        ...


class Ticket:
    """Records on their way to the disk, and the answer that waits for them."""

    __slots__ = ("answer", "body", "is_failed", "is_settled", "owner", "records")

    def __init__(self, owner: Owner, answer: bytes, records: Sequence[Record] = (), body: bytes | None = None) -> None:
        self.owner = owner
        self.answer = answer
        self.records = records
        self.body = body
        self.is_settled = False
        self.is_failed = False


class Ledger:
    """The writer. One process at a time: the file is locked until `close`.

    All records submitted within one turn of the event loop are written by one system call; with fsync, all that arrive
    while the disk is busy share the next one.
    """

    def __init__(self, path: Path, *, keeps_bodies: bool = False, is_fsynced: bool = False) -> None:
        """Open or continue a ledger.

        Raises:  Misconfigured when the file cannot be opened, belongs to another process or is no ledger.
        """
        self.path = path
        self.bodies_path = bodies_path(path)
        self.counts: Counter[str] = Counter()
        self.taken_bytes = 0
        self.is_healthy = True
        self._is_fsynced = is_fsynced
        self._encoder = msgspec.json.Encoder()
        self._waiting: list[Ticket] = []
        self._is_busy = False
        self._fd = self._body_fd = -1
        self._size = self._body_size = self.last_seq = 0
        try:
            self._open(keeps_bodies=keeps_bodies)
        except OSError as error:
            self._close_files()
            raise Misconfigured(
                "ledger_unusable", f"cannot be opened for writing: {error.strerror}", field="ledger_path"
            ) from error
        except Broken as error:
            self._close_files()
            raise Misconfigured("ledger_unusable", f"is no ledger: {error.message}", field="ledger_path") from error

    def submit(self, ticket: Ticket) -> None:
        """Write the ticket's records (and body) soon; its owner is called once they are on disk or the write failed."""
        self._waiting.append(ticket)
        if len(self._waiting) == 1 and not self._is_busy:
            asyncio.get_running_loop().call_soon(self.flush)

    def flush(self) -> None:
        """Write everything that waits, now."""
        if self._is_busy or not self._waiting:
            return
        tickets, self._waiting = self._waiting, []
        try:
            self._write(tickets)
        except OSError:
            self.is_healthy = False
            for ticket in tickets:
                ticket.is_failed = True
            _settle(tickets)
            return
        if self._is_fsynced:
            self._is_busy = True
            sync = asyncio.get_running_loop().run_in_executor(None, self._sync)
            sync.add_done_callback(lambda done: self._synced(tickets, done))
        else:
            self._count(tickets)
            _settle(tickets)

    async def close(self) -> None:
        """Write what waits, release the lock; idempotent."""
        while self._waiting or self._is_busy:
            self.flush()
            await asyncio.sleep(0.001 if self._is_busy else 0)
        self._close_files()

    def _open(self, *, keeps_bodies: bool) -> None:
        self._fd = _open_locked(self.path)
        self._size, self.last_seq = _continue(self._fd)
        if keeps_bodies:
            self._body_fd = os.open(self.bodies_path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            self._body_size = os.fstat(self._body_fd).st_size

    def _close_files(self) -> None:
        for fd in (self._fd, self._body_fd):
            if fd >= 0:
                os.close(fd)
        self._fd = self._body_fd = -1

    def _write(self, tickets: Sequence[Ticket]) -> None:
        """Append bodies, then records; on trouble both files end where they ended before."""
        seq = self.last_seq
        encode = self._encoder.encode
        lines: list[bytes] = []
        bodies: list[bytes] = []
        offset = self._body_size
        for ticket in tickets:
            body = ticket.body if self._body_fd >= 0 else None
            for record in ticket.records:
                seq += 1
                record.seq = seq
                if body is not None:
                    record.body_offset = offset
                    record.body_bytes = len(body)
                lines.append(encode(record))
            if body is not None:
                bodies.append(body)
                offset += len(body)
        if bodies:
            self._body_size = _append(self._body_fd, self._body_size, b"".join(bodies))
        lines.append(b"")
        self._size = _append(self._fd, self._size, b"\n".join(lines))
        self.last_seq = seq

    def _sync(self) -> None:
        if self._body_fd >= 0:
            os.fdatasync(self._body_fd)
        os.fdatasync(self._fd)

    def _synced(self, tickets: Sequence[Ticket], done: asyncio.Future[None]) -> None:
        """The disk answered; what came meanwhile goes next."""
        self._is_busy = False
        if done.cancelled() or done.exception() is not None:
            self.is_healthy = False
            for ticket in tickets:
                ticket.is_failed = True
        else:
            self._count(tickets)
        _settle(tickets)
        self.flush()

    def _count(self, tickets: Sequence[Ticket]) -> None:
        self.is_healthy = True
        counts = self.counts
        for ticket in tickets:
            for record in ticket.records:
                counts[record.outcome] += 1
                if record.outcome in TAKEN:
                    self.taken_bytes += record.size_bytes


def bodies_path(ledger_path: Path) -> Path:
    """Where the bytes of the messages of a ledger are kept, when they are."""
    return ledger_path.with_name(ledger_path.name + ".bodies")


def _settle(tickets: Sequence[Ticket]) -> None:
    """Tell each owner once, in the order of their first ticket."""
    for ticket in tickets:
        ticket.is_settled = True
    for owner in dict.fromkeys(ticket.owner for ticket in tickets):
        owner.on_written()


def _open_locked(path: Path) -> int:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(fd)
        raise Misconfigured(
            "ledger_in_use", "another sandbox is writing this file; give each its own", field="ledger_path"
        ) from error
    return fd


def _append(fd: int, size: int, data: bytes) -> int:
    """Append all of `data` or nothing.

    Gives:   the new size.
    Raises:  OSError; the file was cut back to `size`.
    """
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(fd, view) :]
    except OSError:
        os.ftruncate(fd, size)
        raise
    return size + len(data)


def _continue(fd: int) -> tuple[int, int]:
    """Cut off a half-written last line and find the last sequence number.

    Gives:   size in bytes, last seq (0 for an empty ledger).
    """
    size = os.fstat(fd).st_size
    start, tail = size, b""
    while start and tail.count(b"\n") < 2:  # noqa: PLR2004 -- one ends the last whole line, one ends the line before
        block = min(_TAIL_BLOCK_BYTES, start)
        start -= block
        tail = os.pread(fd, block, start) + tail
    whole = tail.rfind(b"\n") + 1
    if start + whole < size:
        os.ftruncate(fd, start + whole)
    if not whole:
        return 0, 0
    last_line = tail[:whole].rstrip(b"\n").rpartition(b"\n")[2]
    return start + whole, decode(last_line, start).seq


_DECODER: Final = msgspec.json.Decoder(Record)


def decode(line: bytes, offset: int) -> Record:
    """Read one line.

    Raises:  Broken(ledger_damaged) naming the offset: a whole line that is no record was written by nobody of ours.
    """
    try:
        return _DECODER.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Broken("ledger_damaged", f"no ledger record near byte {offset}: {error}", offset=offset) from error
