"""A mail server on loopback that misbehaves as a script says, and remembers every byte it was sent.

`SmtpFaults(script=…)` is an async context manager. The script is asked before every answer and gives None (answer as a
sound server does), bytes (answer exactly this) or an action. What the server took responsibility for is in `accepted`,
the commands in `lines`; nothing here is shared between tests.
"""

from __future__ import annotations

import asyncio
import ssl
from base64 import b64decode
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self


@dataclass(frozen=True)
class Event:
    """The server is about to answer: `nth` counts this stage over the whole server, from 1."""

    connection: int
    stage: str
    nth: int
    line: str
    recipient: str


@dataclass(frozen=True)
class Close:
    """Hang up: after saying something perhaps, after taking the message perhaps (at the stage `dot`)."""

    say: bytes = b""
    is_taken: bool = False


@dataclass(frozen=True)
class Hang:
    """Say something perhaps and then nothing more; `is_deaf`: nor read another byte. `is_taken` as in Close."""

    say: bytes = b""
    is_deaf: bool = False
    is_taken: bool = False


@dataclass(frozen=True)
class Wait:
    """Answer soundly, but only when the event is set."""

    event: asyncio.Event


Action = bytes | Close | Hang | Wait | None
Script = Callable[[Event], Action]


@dataclass(frozen=True)
class Taken:
    """One message the server took responsibility for."""

    connection: int
    sender: str
    recipient: str
    body: bytes


@dataclass(frozen=True)
class Line:
    """One command as received, and whether it came through TLS."""

    connection: int
    is_tls: bool
    text: str


@dataclass
class _Talk:
    """One connection's state."""

    number: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    is_tls: bool = False
    sender: str | None = None
    options: str = ""
    recipients: list[str] = field(default_factory=list)
    is_over: bool = False


EXTENSIONS = ("PIPELINING", "SIZE 10000000", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES")


class SmtpFaults:
    """See the module. `tls` is the context for STARTTLS (or for everything with `is_implicit`)."""

    def __init__(
        self,
        script: Script = lambda _: None,
        *,
        extensions: tuple[str, ...] = EXTENSIONS,
        tls: ssl.SSLContext | None = None,
        is_implicit: bool = False,
        login: tuple[str, str] | None = None,
        auth: str = "PLAIN LOGIN",
        is_354_without_recipient: bool = False,
    ) -> None:
        self.script = script
        self.extensions = extensions
        self.tls = tls
        self.is_implicit = is_implicit
        self.login = login
        self.auth = auth
        self.is_354_without_recipient = is_354_without_recipient
        self.lines: list[Line] = []
        self.accepted: list[Taken] = []
        self.dots = 0
        self.lone_dots = 0
        self.connections = 0
        self.ended = 0
        self.talked_ahead = 0
        self.port = 0
        self._counts: Counter[str] = Counter()
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", self.port, limit=2**26, ssl=self.tls if self.is_implicit else None
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Stop listening and cut every connection."""
        if self._server is not None:
            self._server.close()
            for task in tuple(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._server.wait_closed()
            self._server = None

    async def until(self, is_so: Callable[[], bool], *, bound_s: float = 60) -> None:
        """Wait for something to be true of this server; looked at after each thing that happens."""
        async with asyncio.timeout(bound_s):
            while not is_so():
                self._changed.clear()
                await self._changed.wait()

    def said(self, prefix: str) -> list[str]:
        """The commands received that start with a prefix."""
        return [line.text for line in self.lines if line.text.upper().startswith(prefix)]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        talk = _Talk(self.connections, reader, writer, is_tls=self.is_implicit)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError, TimeoutError):
                await self._talk(talk)
        except asyncio.CancelledError:
            pass  # the server is being stopped
        finally:
            self.ended += 1
            self._changed.set()
            if task.cancelling():
                writer.transport.abort()  # waiting for its end hangs where a TLS handshake was under way
            else:
                writer.close()

    async def _talk(self, talk: _Talk) -> None:
        await self._answer(talk, "banner", "", b"220 faults ESMTP\r\n")
        while not talk.is_over:
            raw = await talk.reader.readline()
            if not raw.endswith(b"\n"):
                return
            line = raw.decode("utf-8", "replace").rstrip("\r\n")
            self.lines.append(Line(talk.number, talk.is_tls, line))
            self._changed.set()
            if "PIPELINING" not in self.extensions and self._has_more(talk):
                self.talked_ahead += 1
            await self._command(talk, line)

    def _has_more(self, talk: _Talk) -> bool:
        return bool(getattr(talk.reader, "_buffer", b""))

    async def _command(self, talk: _Talk, line: str) -> None:
        verb, _, rest = line.partition(" ")
        match verb.upper():
            case "EHLO":
                await self._answer(talk, "ehlo", line, self._ehlo(talk))
            case "STARTTLS":
                await self._start_tls(talk, line)
            case "AUTH":
                await self._auth(talk, line, rest)
            case "MAIL":
                await self._mail(talk, line)
            case "RCPT":
                await self._rcpt(talk, line)
            case "DATA":
                await self._data(talk, line)
            case "RSET":
                talk.sender, talk.recipients = None, []
                await self._answer(talk, "rset", line, b"250 2.0.0 reset\r\n")
            case "QUIT":
                await self._answer(talk, "quit", line, b"221 2.0.0 bye\r\n")
                talk.is_over = True
            case _:
                await self._answer(talk, "other", line, b"502 5.5.2 what?\r\n")

    def _ehlo(self, talk: _Talk) -> bytes:
        words = ["faults", *self.extensions]
        if self.tls is not None and not talk.is_tls:
            words.append("STARTTLS")
        if self.login is not None:
            words.append(f"AUTH {self.auth}")
        return b"".join(b"250%b%b\r\n" % (b" " if word is words[-1] else b"-", word.encode()) for word in words)

    async def _start_tls(self, talk: _Talk, line: str) -> None:
        if await self._answer(talk, "starttls", line, b"220 2.0.0 go ahead\r\n") != b"220 2.0.0 go ahead\r\n":
            return
        assert self.tls is not None
        await talk.writer.start_tls(self.tls)
        talk.is_tls = True

    async def _auth(self, talk: _Talk, line: str, rest: str) -> None:
        method, _, token = rest.partition(" ")
        if method.upper() == "PLAIN":
            _, user, password = b64decode(token).decode().split("\0")
        else:
            if not token:
                talk.writer.write(b"334 VXNlcm5hbWU6\r\n")
            user = b64decode(token or await talk.reader.readline()).decode()
            talk.writer.write(b"334 UGFzc3dvcmQ6\r\n")
            password = b64decode(await talk.reader.readline()).decode()
        is_right = (user, password) == self.login
        refusal = f"535 5.7.8 wrong: {user} {password}\r\n".encode()
        await self._answer(talk, "auth", line, b"235 2.7.0 welcome\r\n" if is_right else refusal)

    async def _mail(self, talk: _Talk, line: str) -> None:
        if talk.sender is not None:
            await self._answer(talk, "mail", line, b"503 5.5.1 nested MAIL\r\n")
            return
        sender, _, talk.options = line.partition(":<")[2].partition(">")
        if (await self._answer(talk, "mail", line, b"250 2.1.0 ok\r\n"))[:1] == b"2":
            talk.sender = sender

    async def _rcpt(self, talk: _Talk, line: str) -> None:
        recipient = line.partition(":<")[2].partition(">")[0]
        default = b"250 2.1.5 ok\r\n" if talk.sender is not None else b"503 5.5.1 MAIL first\r\n"
        if (await self._answer(talk, "rcpt", line, default, recipient))[:1] == b"2":
            talk.recipients.append(recipient)

    async def _data(self, talk: _Talk, line: str) -> None:
        has_recipient = bool(talk.recipients) or self.is_354_without_recipient
        default = b"354 go ahead\r\n" if has_recipient else b"554 5.5.1 no valid recipients\r\n"
        recipient = talk.recipients[0] if talk.recipients else ""
        if not (await self._answer(talk, "data", line, default, recipient)).startswith(b"354"):
            return
        body = bytearray()
        while (part := await talk.reader.readline()) != b".\r\n":
            if not part.endswith(b"\n"):
                return
            body += part.removeprefix(b".")
        self.dots += 1
        self.lone_dots += not body
        self._changed.set()
        taken = [Taken(talk.number, talk.sender or "", address, bytes(body)) for address in talk.recipients]
        talk.sender, talk.recipients = None, []
        default = b"250 2.0.0 Ok: queued as %X\r\n" % (0xABC000 + self.dots) if taken else b"554 5.5.1 nobody\r\n"
        await self._answer(talk, "dot", line, default, recipient, taken)

    async def _answer(
        self, talk: _Talk, stage: str, line: str, default: bytes, recipient: str = "", taken: list[Taken] | None = None
    ) -> bytes:
        """Do what the script says; gives what was answered, empty when nothing was."""
        self._counts[stage] += 1
        action = self.script(Event(talk.number, stage, self._counts[stage], line, recipient))
        answer = b""
        match action:
            case None:
                answer = default
            case bytes():
                answer = action
            case Wait():
                await action.event.wait()
                answer = default
            case Close():
                talk.is_over, answer = True, action.say
        if answer[:1] == b"2" or (isinstance(action, (Close, Hang)) and action.is_taken):
            self.accepted.extend(taken or ())
        self._changed.set()
        if isinstance(action, Hang):
            talk.writer.write(action.say)
            if action.is_deaf:
                talk.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a socket's transport can
            await asyncio.Event().wait()
        if answer:
            talk.writer.write(answer)
            await talk.writer.drain()
        return b"" if talk.is_over else answer
