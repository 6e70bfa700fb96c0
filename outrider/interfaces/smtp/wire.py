"""The wire: bytes of one SMTP connection as lines and messages, answers back, TLS from the middle on.

Owns buffering, line ends, lengths and patience. Lines end with CRLF and a message with CRLF.CRLF, nothing else: a
line feed of its own is how one server's message becomes another's commands (CVE-2024-27938). Knows no command.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Final, cast

LONGEST_LINE_BYTES: Final = 2_048
"""RFC 5321 asks for 512, RFC 4954 for 12,288 of AUTH; a key is far shorter."""

COMMAND_WITHIN_S: Final = 300.0
"""RFC 5321 4.5.3.2.7."""

DATA_WITHIN_S: Final = 600.0
HELD_BYTES: Final = 262_144
"""What is read ahead at most."""

_END: Final = b"\r\n.\r\n"


class Gone(Exception):
    """The client is not there any more, or was too slow: end without a word, or with `farewell`."""

    def __init__(self, farewell: bytes = b"") -> None:
        super().__init__()
        self.farewell = farewell


class Wire(asyncio.Protocol):
    """One connection. Its reader is one coroutine; `closed` is done when nothing more can come."""

    def __init__(self, started: asyncio.Queue[Wire]) -> None:
        self._started = started
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._news = asyncio.Event()
        self._may_write = asyncio.Event()
        self._may_write.set()
        self._is_paused = False
        self._is_over = False
        self._is_stopping = False
        self.peer = ""
        self.is_tls = False

    # the transport calls these

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Hand the new connection over."""
        self._transport = cast("asyncio.Transport", transport)
        if not self.peer:
            self.peer = str((transport.get_extra_info("peername") or ("unknown",))[0])
            self._started.put_nowait(self)

    def data_received(self, data: bytes) -> None:
        """Keep what came; read on only when there is room."""
        self._buffer += data
        self._news.set()
        if len(self._buffer) > HELD_BYTES and not self._is_paused and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """Nothing more comes."""
        self._is_over = True
        self._news.set()
        return False

    def connection_lost(self, _: Exception | None) -> None:
        """Wake whoever waits."""
        self._is_over = True
        self._news.set()
        self._may_write.set()

    def pause_writing(self) -> None:
        """The client does not read its answers."""
        self._may_write.clear()

    def resume_writing(self) -> None:
        """It does again."""
        self._may_write.set()

    # the session calls these

    @property
    def has_more(self) -> bool:
        """Whether the client sent on without waiting."""
        return bool(self._buffer)

    async def line(self, within_s: float = COMMAND_WITHIN_S) -> bytes | None:
        """The next line without its end; None for one that is no line: too long, or with a line end of its own kind.

        Raises:  Gone.
        """
        async with _patience(within_s):
            while (end := self._buffer.find(b"\n")) < 0:
                if len(self._buffer) > LONGEST_LINE_BYTES:
                    raise Gone(b"500 5.5.2 Line too long\r\n")
                await self._more()
        found = bytes(self._buffer[: end + 1])
        del self._buffer[: end + 1]
        self._go_on()
        is_line = found.endswith(b"\r\n") and len(found) <= LONGEST_LINE_BYTES and b"\r" not in found[:-2]
        return found[:-2] if is_line else None

    async def message(self, most_bytes: int, take: Callable[[int], bool]) -> bytes | None:
        """The message after DATA, its dots taken off; None when it is too large: read to its end and forgotten.

        Takes:   take: told of bytes before they are kept; says whether there is room for them. What there is none for
                 is forgotten as well.
        Raises:  Gone, also for one that is more than twice too large.
        """
        kept, is_too_large, count = bytearray(b"\r\n"), False, 0
        async with _patience(DATA_WITHIN_S):
            while True:
                start = max(0, len(kept) - len(_END) + 1)
                has_room = is_too_large or take(len(self._buffer))
                kept += self._buffer
                count += len(self._buffer)
                self._buffer.clear()
                self._go_on()
                end = kept.find(_END, start)
                if end >= 0:
                    break
                if count > most_bytes or not has_room:
                    is_too_large = True
                    del kept[: -len(_END) + 1]
                if count > 2 * most_bytes + HELD_BYTES:
                    raise Gone(b"552 5.3.4 Message too large\r\n")
                await self._more()
        self._buffer[:0] = kept[end + len(_END) :]
        if is_too_large or end > most_bytes or not has_room:
            return None
        return bytes(kept[: end + 2]).replace(b"\r\n.", b"\r\n")[2:]

    async def say(self, answer: bytes) -> None:
        """Send an answer. Raises Gone."""
        if self._transport is None or self._transport.is_closing():
            raise Gone
        self._transport.write(answer)
        async with _patience(COMMAND_WITHIN_S):
            await self._may_write.wait()

    async def start_tls(self, context: ssl.SSLContext, answer: bytes) -> None:
        """Say so and shake hands; what was sent in the clear is not read any more. Raises Gone."""
        transport = self._transport
        if transport is None or transport.is_closing():
            raise Gone
        transport.pause_reading()
        self._buffer.clear()
        transport.write(answer)
        try:
            made = await asyncio.get_running_loop().start_tls(
                transport, self, context, server_side=True, ssl_handshake_timeout=30.0
            )
        except (OSError, ssl.SSLError, TimeoutError):
            made = None
        if made is None:
            raise Gone
        self._transport = made
        self._is_paused = False
        self.is_tls = True

    def hang_up(self) -> None:
        """The server stops: nothing more is waited for; what was asked is still answered."""
        self._is_stopping = True
        self._news.set()

    def close(self) -> None:
        """End it; what was said is still delivered."""
        if self._transport is not None:
            self._transport.close()

    async def _more(self) -> None:
        if self._is_over:
            raise Gone
        if self._is_stopping:
            raise Gone(b"421 4.3.2 Shutting down\r\n")
        self._news.clear()
        await self._news.wait()

    def _go_on(self) -> None:
        if self._is_paused and len(self._buffer) <= HELD_BYTES and self._transport is not None:
            self._is_paused = False
            if not self._transport.is_closing():
                self._transport.resume_reading()


class _patience:  # noqa: N801 - used like a function
    """A time limit whose end is Gone."""

    def __init__(self, seconds: float) -> None:
        self._timeout = asyncio.timeout(seconds)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(self, *error: object) -> None:
        try:
            await self._timeout.__aexit__(*error)  # type: ignore[arg-type]  # what `async with` gives
        except TimeoutError:
            raise Gone(b"421 4.4.2 Timeout, nothing was heard for too long\r\n") from None
