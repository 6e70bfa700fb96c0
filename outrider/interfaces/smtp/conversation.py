"""A conversation over SMTP: the order of commands and the words of the answers that every listener shares.

Owns greeting, TLS, the frame of a transaction and the ends of a conversation. Who may talk, for whom something is and
what becomes of it is the listener's: it fills in the hooks. Keeps no letter.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import ClassVar, Final, Generic, Protocol, TypeVar
from uuid import UUID

from outrider.interfaces.smtp import commands
from outrider.interfaces.smtp.room import Rules
from outrider.interfaces.smtp.wire import COMMAND_WITHIN_S, Gone, Wire

_MOST_ERRORS: Final = 20
OK: Final = b"250 2.0.0 Ok\r\n"
ORDER: Final = b"503 5.5.1 Bad sequence of commands\r\n"
SYNTAX: Final = b"501 5.5.4 Syntax error in parameters\r\n"
UNKNOWN: Final = b"500 5.5.2 Command not recognised\r\n"
PARAMETER: Final = b"555 5.5.4 Parameter not recognised\r\n"
TOO_MANY: Final = b"452 4.5.3 Too many recipients; send the rest in another transaction\r\n"
TOO_LARGE: Final = b"552 5.3.4 Message too large\r\n"
LATER: Final = b"451 4.3.0 Not now, try again later\r\n"
TOO_MANY_ERRORS: Final = b"421 4.7.0 Too many errors\r\n"
_NO_ROOM: Final = b"452 4.3.1 Too many large messages at once, try again later\r\n"
_SAME_ANSWER: Final = {
    "NOOP": OK,
    "RSET": OK,
    "QUIT": b"221 2.0.0 Bye\r\n",
    "VRFY": b"252 2.5.1 Cannot say\r\n",
    "EXPN": b"252 2.5.1 Cannot say\r\n",
}


class Envelope(Protocol):
    """A transaction under way."""

    @property
    def is_for_nobody(self) -> bool:
        """Whether no recipient was named yet."""
        ...


E = TypeVar("E", bound=Envelope)


class Conversation(ABC, Generic[E]):
    """One connection's conversation, from the greeting to the end."""

    purpose: ClassVar[str]

    def __init__(self, wire: Wire, rules: Rules, stopping: asyncio.Event) -> None:
        self.wire = wire
        self.rules = rules
        self.envelope: E | None = None
        self.is_greeted = False
        self._stopping = stopping
        self._errors = 0

    # what a listener fills in

    @abstractmethod
    def begin(self, rest: str) -> E | bytes:
        """MAIL, with what follows it: a new transaction, or the answer that refuses it."""

    @abstractmethod
    def add(self, envelope: E, rest: str) -> bytes:
        """RCPT, with what follows it."""

    @abstractmethod
    def holder(self, envelope: E) -> UUID:
        """Which tenant holds room for the message."""

    @abstractmethod
    async def keep(self, envelope: E, body: bytes) -> bytes:
        """Keep a message; the answer to its end is said after the commit, never before."""

    def refuses_mail(self) -> bytes | None:
        """Why nobody may begin a transaction here now, whatever the order of commands."""
        return None

    async def other(self, verb: str, rest: str) -> bytes:
        """A command that not every listener knows."""
        del verb, rest
        return UNKNOWN

    def offers(self) -> list[str]:
        """What is offered besides what every listener offers."""
        return []

    def forget(self) -> None:
        """What was said in the clear counts for nothing any more."""

    def farewell(self) -> bytes | None:
        """Why the conversation ends here, if it does."""
        return TOO_MANY_ERRORS if self._errors > _MOST_ERRORS else None

    @property
    def patience_s(self) -> float:
        """How long the next command may take."""
        return COMMAND_WITHIN_S

    # what all share

    async def run(self) -> None:
        """Talk until one of both ends it."""
        try:
            await self.wire.say(f"220 {self.rules.name} ESMTP {self.purpose}\r\n".encode())
            while True:
                last_words = b"421 4.3.2 Shutting down\r\n" if self._stopping.is_set() else self.farewell()
                if last_words is not None:
                    await self.wire.say(last_words)
                    return
                line = await self.wire.line(self.patience_s)
                answer = (
                    b"500 5.5.2 Line too long, or not ended with CRLF\r\n" if line is None else await self._hear(line)
                )
                if answer:
                    await self.wire.say(answer)
                self._errors += answer[:1] == b"5"
                if answer[:3] in {b"221", b"421"}:
                    return
        except Gone as gone:
            await self._say_at_last(gone.farewell)
        finally:
            self.wire.close()

    async def _say_at_last(self, words: bytes) -> None:
        try:
            if words:
                await self.wire.say(words)
        except Gone:
            return

    async def _hear(self, line: bytes) -> bytes:
        """Answer one command."""
        verb, rest = commands.split(line)
        if verb in _SAME_ANSWER:
            self.envelope = None if verb == "RSET" else self.envelope
            return _SAME_ANSWER[verb]
        match verb:
            case "EHLO" | "HELO":
                return self._greet(verb, rest)
            case "STARTTLS":
                return await self._start_tls(rest)
            case "MAIL":
                return self._mail(rest)
            case "RCPT":
                return ORDER if self.envelope is None else self.add(self.envelope, rest)
            case "DATA":
                return await self._data(rest)
        return await self.other(verb, rest)

    def _greet(self, verb: str, rest: str) -> bytes:
        if not rest:
            return SYNTAX
        self.is_greeted, self.envelope = True, None
        if verb == "HELO":
            return f"250 {self.rules.name}\r\n".encode()
        offers = [self.rules.name, "PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES", f"SIZE {self.rules.most_bytes}"]
        if self.rules.tls is not None and not self.wire.is_tls:
            offers.append("STARTTLS")
        offers += self.offers()
        lines = [f"250-{offer}" for offer in offers[:-1]] + [f"250 {offers[-1]}"]
        return "".join(f"{line}\r\n" for line in lines).encode()

    async def _start_tls(self, rest: str) -> bytes:
        if rest:
            return SYNTAX
        if self.rules.tls is None or self.wire.is_tls:
            return b"502 5.5.1 STARTTLS is not offered\r\n"
        if self.wire.has_more:
            raise Gone(b"554 5.5.1 Nothing may follow STARTTLS before its answer\r\n")
        await self.wire.start_tls(self.rules.tls, b"220 2.0.0 Go ahead\r\n")
        self.is_greeted, self.envelope = False, None
        self.forget()
        return b""

    def _mail(self, rest: str) -> bytes:
        refusal = self.refuses_mail()
        if refusal is not None:
            return refusal
        if self.envelope is not None or not self.is_greeted:
            return ORDER
        begun = self.begin(rest)
        if isinstance(begun, bytes):
            return begun
        self.envelope = begun
        return OK

    def sender_of(self, rest: str) -> commands.Path | bytes:
        """The path of MAIL without its size and body, which are looked at here; or the answer that refuses it."""
        found = commands.path(rest, "FROM")
        if found is None:
            return SYNTAX
        size = found.params.pop("SIZE", "0")
        if found.params.pop("BODY", "7BIT").upper() not in {"7BIT", "8BITMIME"} or not size.isdecimal():
            return SYNTAX
        if len(size) > len(str(self.rules.most_bytes)) or int(size) > self.rules.most_bytes:
            return TOO_LARGE
        return found

    async def _data(self, rest: str) -> bytes:
        if rest:
            return SYNTAX
        envelope = self.envelope
        if envelope is None:
            return ORDER
        if envelope.is_for_nobody:
            return b"554 5.5.1 No valid recipients\r\n"
        await self.wire.say(b"354 Go ahead\r\n")
        self.envelope = None
        with self.rules.room.held(self.holder(envelope)) as held:
            body = await self.wire.message(self.rules.most_bytes, held.take)
            if body is None:
                return _NO_ROOM if held.is_refused else TOO_LARGE
            return await self.keep(envelope, body)
