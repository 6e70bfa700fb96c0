"""Bytes to replies: the half of a connection that reads lines and joins them, with bounds on both.

Owns the receive buffer, the expectations (which command the next reply answers) and single question-and-answer steps;
never knows about messages.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from typing import Final, cast

from outrider.contracts.outcome import Deferred
from outrider.plugins.providers.smtp.replies import CLOSING, READY, Reply, Step, describe

# RFC 5321 4.5.3.1.5 allows 512 bytes a line; some servers put more into their texts.
_LONGEST_LINE_BYTES: Final = 4096
_MOST_LINES: Final = 256

# The last line of a reply by its first four bytes; what is not in here is a continuation or not SMTP.
_FINAL: Final = {b"%d%b" % (code, end): code for code in range(200, 600) for end in (b" ", b"\r")} | {
    b"%d" % code: code for code in range(200, 600)
}


class Wire(asyncio.Protocol):
    """One connection as a reader of replies; `failure` says why it is over."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.loop = asyncio.get_running_loop()
        self.is_over = False
        self.failure: Deferred | None = None
        self._tail = b""
        self._lines: list[bytes] = []
        self._expected: deque[Step] = deque((Step.ASK,))
        self._answer: asyncio.Future[Reply | None] = self.loop.create_future()
        self._due = 0
        self._is_sealed = False

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The first expectation, the banner, is already noted."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Split into lines and hand over each reply that is complete."""
        if self._tail:
            data = self._tail + data
        # An answer cannot be older than its question: what is asked while this chunk is read is not answered in it.
        self._due = len(self._expected)
        lines = data.split(b"\n")
        self._tail = lines.pop()
        if len(data) > _LONGEST_LINE_BYTES and max(map(len, (*lines, self._tail))) > _LONGEST_LINE_BYTES:
            self.fail("protocol_error", "a line of the answer is too long")
        for line in lines:
            if self.is_over:
                return
            code = _FINAL.get(line[:4])
            if code is not None and not self._lines:
                self.reply(code, line)
            else:
                self._join(line, code)

    def connection_lost(self, exc: Exception | None) -> None:
        """The other side ended it, or the network did."""
        self.fail("connection_failed", f"the connection broke: {type(exc).__name__}" if exc else "the server hung up")

    # ours

    @property
    def is_encrypted(self) -> bool:
        """Whether what is written now goes through TLS; asked of the transport, not remembered."""
        return self.transport is not None and self.transport.get_extra_info("ssl_object") is not None

    async def ask(self, line: bytes, timeout_s: float, *, is_secret: bool = False) -> Reply | Deferred:
        """Write one command line and wait for its reply; an empty line waits for the banner.

        Gives:   the reply, or why there is none; 421 is such a reason. A secret line's answer is not quoted.
        """
        what = "banner" if not line else "AUTH" if is_secret else line.split(None, 1)[0].decode("ascii")
        if line and self.failure is not None:
            return self.failure
        if line:
            self._answer = self.loop.create_future()
            self._expected.append(Step.ASK)
            self.write(line)
        try:
            async with asyncio.timeout(timeout_s):
                reply = await self._answer
        except TimeoutError:
            self.fail("connection_timeout", f"{what}: no answer in {timeout_s:g} s")
            reply = None
        if reply is None:
            return self.failure or Deferred("connection_failed", f"{what}: the connection is closed")
        if reply.code == CLOSING:
            return Deferred("server_busy", f"{what}: 421" if is_secret else describe(what, reply))
        return reply

    async def start_tls(self, context: ssl.SSLContext, host: str, timeout_s: float) -> Deferred | None:
        """Ask for STARTTLS and shake hands; everything known before is forgotten by the caller.

        Gives:   None, or why not. Bytes that came with the answer are an injection (CVE-2011-0411): never interpreted.
        """
        self._is_sealed = True
        reply = await self.ask(b"STARTTLS\r\n", timeout_s)
        if isinstance(reply, Deferred):
            return reply
        if reply.code != READY:
            return Deferred("tls_unavailable", describe("STARTTLS", reply))
        if self._tail or self._lines or self.is_over or self.transport is None:
            self.fail("tls_failed", "bytes followed the answer to STARTTLS in the clear")
            return self.failure
        try:
            self.transport = await self.loop.start_tls(
                self.transport, self, context, server_hostname=host, ssl_handshake_timeout=timeout_s
            )
        except (OSError, TimeoutError) as error:  # ssl.SSLError is an OSError
            self.fail("tls_failed", tls_problem(error))
            return self.failure
        self._is_sealed = False
        return None

    def write(self, data: bytes) -> None:
        """Hand bytes to the kernel, or to TLS."""
        if self.transport is not None and not self.is_over:
            self.transport.write(data)

    def reply(self, code: int, text: bytes) -> None:
        """One complete reply to the oldest expectation."""
        if not self._due:
            self.unexpected(Reply(code, text))
            return
        self._due -= 1
        self.answer(self._expected.popleft(), code, text)

    def answer(self, step: Step, code: int, text: bytes) -> None:
        """A reply and what it answers."""
        del step
        self._note_answer(code, text)

    def unexpected(self, reply: Reply) -> None:
        """A reply to nothing that was asked."""
        if self._is_sealed:
            self.fail("tls_failed", "bytes followed the answer to STARTTLS in the clear")
        else:
            self.fail("protocol_error", f"an answer ({reply.code}) to nothing asked")

    def fail(self, cause: str, detail: str) -> None:
        """End the connection at once: what is buffered is not sent. Idempotent; the first reason stays."""
        if self.is_over:
            return
        self.is_over = True
        self.failure = Deferred(cause, detail)
        if self.transport is not None:
            self.transport.abort()
        if not self._answer.done():
            self._answer.set_result(None)

    def _note_answer(self, code: int, text: bytes) -> None:
        if not self._answer.done():
            self._answer.set_result(Reply(code, text))

    def _join(self, line: bytes, code: int | None) -> None:
        """A line of a multi-line reply, or a malformed one."""
        lines = self._lines
        lines.append(line)
        stem = line[:3]
        is_sound = stem == lines[0][:3] and (code is not None or (line[3:4] == b"-" and b"200" <= stem <= b"599"))
        if not is_sound or not stem.isdigit() or len(lines) > _MOST_LINES:
            self.fail("protocol_error", "the answer is not SMTP")
        elif code is not None:
            self._lines = []
            self.reply(code, b"\n".join(lines))


def tls_problem(error: BaseException) -> str:
    """What went wrong with TLS, in words that name no address and hold no secret."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not acceptable: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"the handshake failed: {error.reason or 'unknown reason'}"
    return f"the handshake failed: {type(error).__name__}"
