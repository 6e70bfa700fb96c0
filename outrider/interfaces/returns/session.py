"""One conversation of a mail server that brings something back: for which message, what it says.

Owns what is allowed when. Whom it is from is asked only whether it is nobody (`<>`), as notifications have it. 250
after the letter means that what it says is committed.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

import structlog

from outrider.base.errors import OutriderError
from outrider.base.ids import NIL
from outrider.interfaces.returns.intake import Intake
from outrider.interfaces.smtp import commands
from outrider.interfaces.smtp.room import Rules
from outrider.interfaces.smtp.wire import COMMAND_WITHIN_S, Gone, Wire

_log = structlog.get_logger(__name__)
MOST_RECIPIENTS: Final = 10
_MOST_WRONG: Final = 5
"""Addresses that are none of ours, after which the conversation ends: guessing must not be cheap."""

_MOST_ERRORS: Final = 20
_OK = b"250 2.0.0 Ok\r\n"
_SAME_ANSWER: Final = {
    "NOOP": _OK,
    "RSET": _OK,
    "QUIT": b"221 2.0.0 Bye\r\n",
    "VRFY": b"252 2.5.1 Cannot say\r\n",
    "EXPN": b"252 2.5.1 Cannot say\r\n",
}
_ORDER: Final = b"503 5.5.1 Bad sequence of commands\r\n"
_SYNTAX: Final = b"501 5.5.4 Syntax error in parameters\r\n"
_TOO_LARGE: Final = b"552 5.3.4 Message too large\r\n"


@dataclass(slots=True)
class Envelope:
    """A transaction under way."""

    has_null_sender: bool
    messages: list[tuple[UUID, UUID]] = field(default_factory=list)
    """Tenant and message of each address it is for."""


class Session:
    """One connection's conversation."""

    def __init__(self, wire: Wire, intake: Intake, rules: Rules, stopping: asyncio.Event) -> None:
        self._wire = wire
        self._intake = intake
        self._rules = rules
        self._stopping = stopping
        self._envelope: Envelope | None = None
        self._is_greeted = False
        self._errors = 0
        self._wrong = 0

    async def run(self) -> None:
        """Talk until one of both ends it."""
        try:
            await self._wire.say(b"220 %b ESMTP returns\r\n" % self._rules.name.encode())
            while True:
                if self._stopping.is_set():
                    await self._wire.say(b"421 4.3.2 Shutting down\r\n")
                    return
                line = await self._wire.line(COMMAND_WITHIN_S)
                answer = (
                    b"500 5.5.2 Line too long, or not ended with CRLF\r\n" if line is None else await self._hear(line)
                )
                if answer:
                    await self._wire.say(answer)
                if answer[:3] in {b"221", b"421"}:
                    return
                self._errors += answer[:1] == b"5"
                if self._errors > _MOST_ERRORS or self._wrong >= _MOST_WRONG:
                    await self._wire.say(b"421 4.7.0 Too many errors\r\n")
                    return
        except Gone as gone:
            await self._farewell(gone.farewell)
        finally:
            self._wire.close()

    async def _farewell(self, words: bytes) -> None:
        try:
            if words:
                await self._wire.say(words)
        except Gone:
            return

    async def _hear(self, line: bytes) -> bytes:
        """Answer one command."""
        verb, rest = commands.split(line)
        if verb in _SAME_ANSWER:
            self._envelope = None if verb == "RSET" else self._envelope
            return _SAME_ANSWER[verb]
        match verb:
            case "EHLO" | "HELO":
                return self._greet(verb, rest)
            case "STARTTLS":
                return await self._start_tls(rest)
            case "MAIL":
                return self._mail(rest)
            case "RCPT":
                return self._rcpt(rest)
            case "DATA":
                return await self._data(rest)
        return b"500 5.5.2 Command not recognised\r\n"

    def _greet(self, verb: str, rest: str) -> bytes:
        if not rest:
            return _SYNTAX
        self._is_greeted, self._envelope = True, None
        if verb == "HELO":
            return b"250 %b\r\n" % self._rules.name.encode()
        offers = [self._rules.name, "PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES", f"SIZE {self._rules.most_bytes}"]
        if self._rules.tls is not None and not self._wire.is_tls:
            offers.append("STARTTLS")
        lines = [f"250-{offer}" for offer in offers[:-1]] + [f"250 {offers[-1]}"]
        return "".join(f"{line}\r\n" for line in lines).encode()

    async def _start_tls(self, rest: str) -> bytes:
        if rest:
            return _SYNTAX
        if self._rules.tls is None or self._wire.is_tls:
            return b"502 5.5.1 STARTTLS is not offered\r\n"
        if self._wire.has_more:
            raise Gone(b"554 5.5.1 Nothing may follow STARTTLS before its answer\r\n")
        await self._wire.start_tls(self._rules.tls, b"220 2.0.0 Go ahead\r\n")
        self._is_greeted, self._envelope = False, None
        return b""

    def _mail(self, rest: str) -> bytes:
        if self._envelope is not None or not self._is_greeted:
            return _ORDER
        found = commands.path(rest, "FROM")
        if found is None:
            return _SYNTAX
        size = found.params.get("SIZE", "0")
        if not size.isdecimal():
            return _SYNTAX
        if len(size) > len(str(self._rules.most_bytes)) or int(size) > self._rules.most_bytes:
            return _TOO_LARGE
        self._envelope = Envelope(has_null_sender=not found.address)
        return _OK

    def _rcpt(self, rest: str) -> bytes:
        if self._envelope is None:
            return _ORDER
        found = commands.path(rest, "TO")
        if found is None:
            return _SYNTAX
        if len(self._envelope.messages) >= MOST_RECIPIENTS:
            return b"452 4.5.3 Too many recipients; send the rest in another transaction\r\n"
        message = self._intake.message_of(found.address)
        if message is None:
            self._wrong += 1
            return b"550 5.1.1 Nothing of ours comes back to this address\r\n"
        if message not in self._envelope.messages:
            self._envelope.messages.append(message)
        return b"250 2.1.5 Ok\r\n"

    async def _data(self, rest: str) -> bytes:
        if rest:
            return _SYNTAX
        envelope = self._envelope
        if envelope is None or not envelope.messages:
            return _ORDER if envelope is None else b"554 5.5.1 No valid recipients\r\n"
        await self._wire.say(b"354 Go ahead\r\n")
        self._envelope = None
        with self._rules.room.held(NIL) as held:
            letter = await self._wire.message(self._rules.most_bytes, held.take)
            if letter is None:
                busy = b"452 4.3.1 Too many large messages at once, try again later\r\n"
                return busy if held.is_refused else _TOO_LARGE
            async with self._rules.reading:
                return await self._keep(envelope, letter)

    async def _keep(self, envelope: Envelope, letter: bytes) -> bytes:
        """Keep what a letter says; 250 is said after the commit, never before."""
        try:
            said = await self._intake.keep(envelope.messages, letter, has_null_sender=envelope.has_null_sender)
        except OutriderError as error:
            _log.warning("return_not_kept", code=error.code)
            return b"451 4.3.0 Not now, try again later\r\n"
        _log.info("returned", ip=self._wire.peer, said=said, count=len(envelope.messages))
        return f"250 2.0.0 Taken: {said}\r\n".encode()
