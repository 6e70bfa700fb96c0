"""The bytes between 354 and the final dot: where they end, whether they may stand, what they are called.

Owns the end of data (only `<CR><LF>.<CR><LF>` ends it), dot-unstuffing, the refusal of bare CR and LF, and reading the
few headers the ledger wants. Pure: no connection, no file.
"""

from __future__ import annotations

from typing import Final

NOT_ENDED: Final = -1

_END: Final = b"\r\n.\r\n"
_LINE_WITH_DOT: Final = b"\r\n."
_MOST_HEADER_BYTES: Final = 1 << 16
_LONGEST_VALUE: Final = 998
_OUTRIDER: Final = b"\nx-outrider-"
_MOST_OUTRIDER_HEADERS: Final = 16


class DataStream:
    """Collects one message from chunks of any size, once over each byte.

    `defect` is why the message must be refused at once (smuggling), `is_too_large` why at the dot. What is larger than
    the limit is read on and forgotten. `is_watched`: somebody wants to see the headers before the message has ended.
    """

    __slots__ = (
        "_chunks",
        "_is_stuffed",
        "_limit_bytes",
        "_tail",
        "defect",
        "is_too_large",
        "is_watched",
        "size_bytes",
    )

    def __init__(self, limit_bytes: int) -> None:
        self.defect = ""
        self.is_too_large = False
        self.is_watched = False
        self.size_bytes = 0
        self._limit_bytes = limit_bytes
        self._is_stuffed = False
        self._chunks: list[bytes] = []
        self._tail = b"\r\n"  # the end of the DATA line counts as the line end before the first line

    def feed(self, chunk: bytes) -> int:
        """Take what arrived.

        Gives:   how many bytes of the chunk belong to the message and its end, the rest being commands; or NOT_ENDED.
                 After NOT_ENDED look at `defect`; a message that ended with a defect must not be taken either.
        """
        tail = self._tail
        window = tail + chunk
        end = window.find(_LINE_WITH_DOT)
        if end >= 0 and not window.startswith(_END, end):
            self._is_stuffed = True
            end = window.find(_END, end + 1)
        is_ended = end >= 0
        used = end + len(_END) - len(tail)
        if is_ended:
            chunk = chunk[:used]
        self._look_for_bare_ends(chunk)
        self.size_bytes += len(chunk)
        if self.size_bytes > self._limit_bytes + 2 * len(_END) and not self.is_too_large:
            self.is_too_large = True
            self._chunks.clear()
        if not self.is_too_large:
            self._chunks.append(chunk)
        if is_ended:
            self.size_bytes -= 3
            return used
        self._tail = window[-4:]
        return NOT_ENDED

    def message(self) -> bytes:
        """The whole message without stuffing, as the client wanted it delivered; after `feed` found the end."""
        chunks = self._chunks
        raw = (chunks[0] if len(chunks) == 1 else b"".join(chunks))[:-3]
        return unstuffed(raw) if self._is_stuffed else raw

    def has_head(self) -> bool:
        """Whether the headers are complete, or longer than anybody looks."""
        return self.size_bytes > _MOST_HEADER_BYTES or b"\r\n\r\n" in self.head()

    def head(self) -> bytes:
        """What has arrived so far, up to 64 kB: enough to name a message that never ended."""
        return b"".join(self._chunks)[:_MOST_HEADER_BYTES]

    def _look_for_bare_ends(self, chunk: bytes) -> None:
        """Find CR without LF and LF without CR, also where two chunks meet."""
        was_cr = self._tail.endswith(b"\r")
        if was_cr != chunk.startswith(b"\n"):
            self.defect = "bare <CR>" if was_cr else "bare <LF>"
            return
        rest = (chunk[1:] if was_cr else chunk).replace(b"\r\n", b"")
        if chunk.endswith(b"\r"):  # the next chunk decides
            rest = rest[:-1]
        if b"\n" in rest:
            self.defect = "bare <LF>"
        elif b"\r" in rest:
            self.defect = "bare <CR>"


def unstuffed(raw: bytes) -> bytes:
    """Take away the dot that stands before each line beginning with one [RFC 5321 4.5.2]."""
    if raw.startswith(b"."):
        raw = raw[1:]
    return raw.replace(b"\r\n.", b"\r\n")


def has_longer_line(message: bytes, longest: int) -> bool:
    """Whether a line, its CRLF not counted, is longer than `longest`; looks at few of the bytes."""
    start = 0
    end = len(message)
    while end - start > longest:
        line_feed = message.rfind(b"\n", start, start + longest + 2)
        if line_feed < 0:
            return True
        start = line_feed + 1
    return False


def identify(message: bytes) -> tuple[str | None, dict[str, str]]:
    """Read the Message-ID and the `X-Outrider-…` headers.

    Gives:   Message-ID with its angle brackets or None; lower-case names without the prefix -> values.
    """
    if message.startswith(b"\r\n"):
        return None, {}
    end = message.find(b"\r\n\r\n", 0, _MOST_HEADER_BYTES)
    head = b"\n" + message[: end if end >= 0 else _MOST_HEADER_BYTES] + b"\r\n"
    lower = head.lower()
    message_id: str | None = None
    at = lower.find(b"\nmessage-id:")
    if at >= 0:
        message_id = _value(head, at + 12)
    ids: dict[str, str] = {}
    at = lower.find(_OUTRIDER)
    while at >= 0 and len(ids) < _MOST_OUTRIDER_HEADERS:
        name, colon, _ = lower[at + len(_OUTRIDER) : lower.find(b"\r\n", at)].partition(b":")
        if colon:
            ids[name.decode("utf-8", "replace")] = _value(head, at + len(_OUTRIDER) + len(name) + 1)
        at = lower.find(_OUTRIDER, at + 1)
    return message_id, ids


def _value(head: bytes, start: int) -> str:
    """The unfolded value of the header whose colon stands before `start`."""
    end = head.find(b"\r\n", start)
    while head[end + 2 : end + 3] in {b" ", b"\t"}:
        end = head.find(b"\r\n", end + 2)
    return head[start:end].replace(b"\r\n", b"").strip().decode("utf-8", "replace")[:_LONGEST_VALUE]
