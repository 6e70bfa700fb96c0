"""The wire: bytes of one SMTP connection in, answers out in the order they were said.

Owns buffering, line ends, the queue of answers that wait (for the disk, for a delay), TLS and closing. What a line
means is the dialogue's business.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Final, cast

from outrider.interfaces.sandbox.answers import AnswerQueue, Mark
from outrider.interfaces.sandbox.content import NOT_ENDED, DataStream
from outrider.interfaces.sandbox.dialogue import LONGEST_AUTH_BYTES, LONGEST_COMMAND_BYTES, Dialogue
from outrider.interfaces.sandbox.house import House
from outrider.interfaces.sandbox.ledger import Ticket

_LINGER_S: Final = 2.0
"""After the last answer the client gets so long to read it before the connection is reset."""

_MOST_HELD_BYTES: Final = 1 << 20
"""What a client may send ahead while it is kept waiting."""

_TURNED_AWAY: Final = b"421 4.3.2 Too many connections, try again later\r\n"
_SHUTTING_DOWN: Final = b"421 4.3.2 Shutting down\r\n"
_TIMEOUT: Final = b"421 4.4.2 Timeout, nothing was heard for too long\r\n"
_LONG_LINE: Final = b"500 5.5.2 Line too long\r\n"
_BARE_LINE_FEED: Final = b"500 5.5.2 Lines end with <CR><LF>\r\n"


class Session(asyncio.Protocol):
    """One connection. Implements Wire towards the dialogue and Guest towards the house."""

    def __init__(self, house: House, *, is_tls: bool = False) -> None:
        self.is_tls = is_tls
        self.idle_ticks = 0
        self._house = house
        self._buffer = b""
        self._answers = AnswerQueue()
        self._holds = 0
        """Why nothing is heard now: delays, the turn to TLS, a full write buffer."""
        self._is_paused = False
        self._delays = 0
        self._linger: asyncio.TimerHandle | None = None
        self._is_deaf = False
        self._is_lost = False
        self._is_half_closed = False
        self._is_working = False
        self._stream: DataStream | None = None
        self._upgrade_task: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport | None = None
        self._dialogue: Dialogue | None = None

    # the transport calls these

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet, or turn away when there are too many."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are of the kind, but not of the class
        house = self._house
        if house.is_stopping or len(house.sessions) >= house.options.max_connections:
            house.counts["turned_away"] += 1
            self.dismiss(_SHUTTING_DOWN if house.is_stopping else _TURNED_AWAY)
            return
        house.enter(self)
        house.counts["tls_sessions"] += self.is_tls
        self._dialogue = Dialogue(self, house)
        self._dialogue.greet()
        self._send()

    def data_received(self, data: bytes) -> None:
        """Take bytes; work on them unless something holds."""
        self.idle_ticks = 0
        if self._is_deaf:
            return
        self._buffer = self._buffer + data if self._buffer else data
        if not self._holds:
            self._work()
        elif len(self._buffer) > _MOST_HELD_BYTES:
            self._pause()

    def eof_received(self) -> bool:
        """The client says no more; what it is owed still leaves, unless that will take long or TLS is between."""
        if self._stream is not None or self._answers.is_empty or self.is_tls or self._delays:
            return False
        self._is_half_closed = True
        self.close()
        self._send()
        return not self._is_lost

    def connection_lost(self, _: Exception | None) -> None:
        """Forget the session; a message under way was not taken."""
        self._is_lost = self._is_deaf = True
        self._house.leave(self)
        self._lose_stream()
        self._answers.clear()
        self._buffer = b""
        if self._linger is not None:
            self._linger.cancel()
        if self._upgrade_task is not None:
            self._upgrade_task.cancel()

    def pause_writing(self) -> None:
        """The client does not read: hear nothing until it does."""
        self._hold()
        self._pause()

    def resume_writing(self) -> None:
        """The client reads again."""
        self._release()

    # the dialogue calls these (Wire)

    def say(self, answer: bytes) -> None:
        """Queue an answer."""
        self._answers.say(answer)

    def record(self, ticket: Ticket) -> None:
        """Queue an answer that waits for its records."""
        self._answers.wait_for(ticket)
        self._house.ledger.submit(ticket)

    def delay(self, seconds: float) -> None:
        """Hold what is said from here on, and hear nothing."""
        ticket = Ticket(self, b"")
        self._answers.wait_for(ticket)
        self._delays += 1
        self._hold()
        asyncio.get_running_loop().call_later(seconds, self._delay_over, ticket)

    def close(self, *, is_abrupt: bool = False) -> None:
        """Close when all has been said; abruptly: without waiting for the client to read it."""
        self._is_deaf = True
        self._buffer = b""
        self._answers.mark = Mark.DROP if is_abrupt else Mark.CLOSE

    def start_tls(self) -> None:
        """Turn to TLS when all has been said; read nothing until then."""
        self._hold()
        self._pause()
        self._answers.mark = Mark.TLS

    def expect_data(self, stream: DataStream) -> None:
        """A message comes next."""
        self._stream = stream

    # the ledger and the house call these (Owner, Guest)

    def on_written(self) -> None:
        """Tickets are settled: send what may leave."""
        if not self._is_working:
            self._send()

    @property
    def is_in_transaction(self) -> bool:
        """Whether a message is under way or its answer is owed."""
        has_open = self._dialogue is not None and self._dialogue.transaction is not None
        return not self._answers.is_empty or has_open

    def tick(self, most_ticks: int) -> None:
        """Grow impatient; a client that the sandbox itself keeps waiting is not to blame."""
        if self._delays or self._is_deaf:
            return
        self.idle_ticks += 1
        if self.idle_ticks > most_ticks:
            self._house.counts["timeouts"] += 1
            self.dismiss(_TIMEOUT)

    def abort(self) -> None:
        """End the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def dismiss(self, answer: bytes) -> None:
        """Say this and close; a message under way is lost."""
        if not self._is_deaf:
            self._lose_stream()
            self.say(answer)
            self.close()
            self._send()

    # inside

    def _work(self) -> None:
        """Take lines and messages out of the buffer until it is empty or something holds, then send the answers."""
        dialogue = self._dialogue
        if dialogue is None:
            return
        buffer, at = self._buffer, 0
        self._is_working = True
        while at < len(buffer) and not self._is_deaf and not self._holds:
            start = at
            at = self._take_data(dialogue, buffer, at) if self._stream else self._take_line(dialogue, buffer, at)
            if at == start:
                break
        self._is_working = False
        self._buffer = b"" if self._is_deaf else buffer[at:]
        self._send()

    def _take_line(self, dialogue: Dialogue, buffer: bytes, at: int) -> int:
        """Hear out one command; gives where the next begins, or `at` when the line is not whole yet."""
        end = buffer.find(b"\r\n", at, at + LONGEST_COMMAND_BYTES + 2)
        if end < 0 or buffer.find(b"\n", at, end) >= 0:
            return self._take_odd_line(dialogue, buffer, at)
        dialogue.command(buffer[at:end])
        self._look_ahead(dialogue, len(buffer) > end + 2)
        return end + 2

    def _take_odd_line(self, dialogue: Dialogue, buffer: bytes, at: int) -> int:
        """Hear out a line that is too long, not whole or does not end as it should; gives as `_take_line`."""
        line_feed = buffer.find(b"\n", at)
        if (line_feed if line_feed >= 0 else len(buffer)) - at > LONGEST_AUTH_BYTES:
            dialogue.visit.error(_LONG_LINE)
            self.close()
            return at
        if line_feed < 0:
            return at
        line = buffer[at : line_feed + 1]
        if not line.endswith(b"\r\n"):
            dialogue.visit.error(_BARE_LINE_FEED)
        elif len(line) > dialogue.longest_line_bytes + 2 and line[:5].upper() != b"AUTH ":
            dialogue.visit.error(_LONG_LINE)
        else:
            dialogue.command(line[:-2])
        self._look_ahead(dialogue, len(buffer) > line_feed + 1)
        return line_feed + 1

    def _look_ahead(self, dialogue: Dialogue, has_more: bool) -> None:  # noqa: FBT001 -- the hot path, one caller's line
        """Refuse what was sent before the answer could be read, where that is not allowed; end when stopping."""
        if has_more and (self._stream is not None or not dialogue.is_pipelining_offered):
            if not self._is_deaf and self._answers.mark is None:
                self._stream = None
                dialogue.pipelines_unasked()
        elif self._house.is_stopping and dialogue.transaction is None:
            self.dismiss(_SHUTTING_DOWN)

    def _take_data(self, dialogue: Dialogue, buffer: bytes, at: int) -> int:
        """Feed the message under way; gives where the next command begins."""
        stream = self._stream
        if stream is None:
            return at
        used = stream.feed(buffer[at:] if at else buffer)
        if stream.defect:
            self._stream = None
            dialogue.data_is_smuggled(stream)
        elif stream.is_watched and (used != NOT_ENDED or stream.has_head()) and dialogue.data_is_watched(stream):
            self._stream = None
        elif used != NOT_ENDED:
            self._stream = None
            dialogue.data_ended(stream)
            if self._house.is_stopping:
                self.dismiss(_SHUTTING_DOWN)
            elif at + used < len(buffer) and not dialogue.is_pipelining_offered and not self._is_deaf:
                dialogue.pipelines_unasked()
            return at + used
        return len(buffer)

    def _send(self) -> None:
        """Send the answers, as far as nothing before them waits."""
        transport = self._transport
        if self._is_lost or transport is None:
            return
        ready, mark = self._answers.take()
        if ready:
            transport.write(ready)
        if mark is Mark.TLS:
            self._upgrade_task = asyncio.get_running_loop().create_task(self._upgrade(transport))
        elif mark is not None:
            self._finish(transport, is_abrupt=mark is Mark.DROP)

    def _finish(self, transport: asyncio.Transport, *, is_abrupt: bool) -> None:
        """End the connection; unless abruptly, so that the client can still read the last answer."""
        self._answers.clear()
        if self._is_lost or transport.is_closing():
            return
        if transport.can_write_eof() and not is_abrupt and not self._is_half_closed:
            transport.write_eof()
            self._linger = asyncio.get_running_loop().call_later(_LINGER_S, transport.abort)
        else:
            transport.close()

    async def _upgrade(self, transport: asyncio.Transport) -> None:
        """Forget what was sent in the clear and shake hands; a client that cannot is disconnected."""
        house = self._house
        self._buffer = b""
        try:
            secured = await asyncio.get_running_loop().start_tls(
                transport, self, house.tls, server_side=True, ssl_handshake_timeout=house.options.handshake_timeout_s
            )
        except (OSError, ssl.SSLError, TimeoutError):
            secured = None
        self._upgrade_task = None
        if secured is None:
            transport.abort()
            self.connection_lost(None)
            return
        self._transport = secured
        self.is_tls = True
        house.counts["tls_sessions"] += 1
        if self._dialogue is not None:
            self._dialogue.forget()
        self._release()

    def _delay_over(self, ticket: Ticket) -> None:
        ticket.is_settled = True
        self._delays -= 1
        self._send()
        self._release()

    def _hold(self) -> None:
        """Work on nothing more; what comes is kept, so that a client that leaves is noticed."""
        self._holds += 1

    def _pause(self) -> None:
        """Do not even read."""
        if not self._is_paused and self._transport is not None and not self._transport.is_closing():
            self._is_paused = True
            self._transport.pause_reading()

    def _release(self) -> None:
        self._holds -= 1
        if self._holds or self._is_lost or self._transport is None:
            return
        if self._is_paused and not self._transport.is_closing():
            self._is_paused = False
            self._transport.resume_reading()
        if self._buffer and not self._is_deaf:
            self._work()

    def _lose_stream(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None and self._dialogue is not None:
            self._dialogue.data_is_lost(stream)
