"""One conversation: who is it, for whom, what; the order of commands and the words of the answers.

Owns what is allowed when. Signing in needs TLS or loopback; mail needs signing in; 250 after the message means that it
is committed. Never keeps, logs or repeats a key.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from ipaddress import ip_address
from typing import Final

import structlog

from outrider.base.errors import OutriderError, Refused, RefusedMany, Unavailable
from outrider.data.runtime import Runtime
from outrider.interfaces.smtp import commands
from outrider.interfaces.smtp.room import Rules
from outrider.interfaces.smtp.wire import COMMAND_WITHIN_S, Gone, Wire
from outrider.interfaces.submission import intake, letter

_log = structlog.get_logger(__name__)
MOST_RECIPIENTS: Final = 100
_MOST_ERRORS: Final = 20
_MOST_SIGN_INS: Final = 3
SIGN_IN_WITHIN_S: Final = 60.0
"""Whoever has not signed in by then gives the place to others."""

_SLOW_S: Final = 1.0
"""After a wrong key the next answer waits this long."""

_OK = b"250 2.0.0 Ok\r\n"
_SAME_ANSWER: Final = {
    "NOOP": _OK,
    "RSET": _OK,
    "QUIT": b"221 2.0.0 Bye\r\n",
    "VRFY": b"252 2.5.1 Cannot say\r\n",
    "EXPN": b"252 2.5.1 Cannot say\r\n",
}
_ORDER = b"503 5.5.1 Bad sequence of commands\r\n"
_SYNTAX = b"501 5.5.4 Syntax error in parameters\r\n"
_UNKNOWN = b"500 5.5.2 Command not recognised\r\n"
_LOCAL = b"451 4.3.0 Not now, try again later\r\n"
_TOO_LARGE = b"552 5.3.4 Message too large\r\n"
_NO_ROOM = b"452 4.3.1 Too many large messages at once, try again later\r\n"


@dataclass(slots=True)
class Envelope:
    """A transaction under way; who it is from is the sender's business, not the envelope's."""

    recipients: list[str] = field(default_factory=list)


class Session:
    """One connection's conversation."""

    def __init__(self, wire: Wire, runtime: Runtime, rules: Rules, stopping: asyncio.Event) -> None:
        self._wire = wire
        self._runtime = runtime
        self._rules = rules
        self._stopping = stopping
        self._account: intake.Account | None = None
        self._envelope: Envelope | None = None
        self._is_greeted = False
        self._errors = 0
        self._sign_ins = 0
        self._sign_in_by_s = time.monotonic() + SIGN_IN_WITHIN_S

    async def run(self) -> None:
        """Talk until one of both ends it."""
        name = self._rules.name.encode()
        try:
            await self._wire.say(b"220 %b ESMTP submission\r\n" % name)
            while await self._hears_on():
                line = await self._wire.line(self._patience_s)
                answer = (
                    b"500 5.5.2 Line too long, or not ended with CRLF\r\n" if line is None else await self._hear(line)
                )
                if answer:
                    await self._wire.say(answer)
                self._errors += answer[:1] == b"5"
                if answer[:3] in {b"221", b"421"}:
                    return
        except Gone as gone:
            if gone.farewell:
                await self._farewell(gone.farewell)
        finally:
            self._wire.close()

    async def _hears_on(self) -> bool:
        """Whether another command is heard; says why not."""
        if self._stopping.is_set():
            await self._wire.say(b"421 4.3.2 Shutting down\r\n")
            return False
        if self._patience_s <= 0:
            await self._wire.say(b"421 4.7.0 Too long without signing in\r\n")
            return False
        if self._errors > _MOST_ERRORS:
            await self._wire.say(b"421 4.7.0 Too many errors\r\n")
            return False
        return True

    @property
    def _patience_s(self) -> float:
        """How long the next command may take."""
        return COMMAND_WITHIN_S if self._account is not None else self._sign_in_by_s - time.monotonic()

    async def _farewell(self, words: bytes) -> None:
        try:
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
            case "AUTH":
                return await self._sign_in(rest)
            case "MAIL":
                return self._mail(rest)
            case "RCPT":
                return self._rcpt(rest)
            case "DATA":
                return await self._data(rest)
        return _UNKNOWN

    def _greet(self, verb: str, rest: str) -> bytes:
        if not rest:
            return _SYNTAX
        self._is_greeted, self._envelope = True, None
        if verb == "HELO":
            return b"250 %b\r\n" % self._rules.name.encode()
        offers = [self._rules.name, "PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES", f"SIZE {self._rules.most_bytes}"]
        if self._rules.tls is not None and not self._wire.is_tls:
            offers.append("STARTTLS")
        if self._may_sign_in:
            offers.append("AUTH PLAIN LOGIN")
        lines = [f"250-{offer}" for offer in offers[:-1]] + [f"250 {offers[-1]}"]
        return "".join(f"{line}\r\n" for line in lines).encode()

    @property
    def _may_sign_in(self) -> bool:
        """Whether a key may be said here: nobody else reads along."""
        return self._wire.is_tls or _is_loopback(self._wire.peer)

    async def _start_tls(self, rest: str) -> bytes:
        if rest:
            return _SYNTAX
        if self._rules.tls is None or self._wire.is_tls:
            return b"502 5.5.1 STARTTLS is not offered\r\n"
        if self._wire.has_more:
            raise Gone(b"554 5.5.1 Nothing may follow STARTTLS before its answer\r\n")
        await self._wire.start_tls(self._rules.tls, b"220 2.0.0 Go ahead\r\n")
        self._is_greeted, self._account, self._envelope = False, None, None
        return b""

    async def _sign_in(self, rest: str) -> bytes:
        """AUTH PLAIN and LOGIN; the password is an API key, the user may be anything."""
        if not self._may_sign_in:
            return b"538 5.7.11 Encryption required: STARTTLS first\r\n"
        if self._account is not None or self._envelope is not None or not self._is_greeted:
            return _ORDER
        mechanism, _, initial = rest.partition(" ")
        if mechanism.upper() == "PLAIN":
            response = await self._response(initial, b"334 \r\n")
            key = commands.plain(response) if response is not None else None
        elif mechanism.upper() == "LOGIN":
            user = await self._response(initial, b"334 VXNlcm5hbWU6\r\n")
            response = await self._response("", b"334 UGFzc3dvcmQ6\r\n") if user is not None else None
            key = response.decode("utf-8", "replace") if response is not None else None
        else:
            return b"504 5.5.4 Mechanism not supported\r\n"
        if key is None:
            return b"501 5.5.2 Cannot decode, or cancelled\r\n"
        return await self._check(key)

    async def _response(self, initial: str, question: bytes) -> bytes | None:
        """A response of AUTH: the initial one, or asked for."""
        if initial:
            return commands.unbase64(initial)
        await self._wire.say(question)
        line = await self._wire.line(self._patience_s)
        return None if line is None or line == b"*" else commands.unbase64(line)

    async def _check(self, key: str) -> bytes:
        try:
            self._account = await intake.sign_in(self._runtime, key)
        except OutriderError:
            return b"454 4.7.0 Cannot check this now, try again later\r\n"
        if self._account is not None:
            return b"235 2.7.0 Signed in\r\n"
        self._sign_ins += 1
        _log.warning("login_failed", ip=self._wire.peer, via="smtp")
        await asyncio.sleep(_SLOW_S)
        if self._sign_ins >= _MOST_SIGN_INS:
            return b"421 4.7.0 Too many wrong keys\r\n"
        return b"535 5.7.8 This is no key that may send\r\n"

    def _mail(self, rest: str) -> bytes:
        if self._account is None:
            return b"530 5.7.0 Sign in first\r\n"
        if self._envelope is not None or not self._is_greeted:
            return _ORDER
        found = commands.path(rest, "FROM")
        if found is None:
            return _SYNTAX
        size = found.params.pop("SIZE", "0")
        if found.params.pop("BODY", "7BIT").upper() not in {"7BIT", "8BITMIME"} or not size.isdecimal():
            return _SYNTAX
        found.params.pop("AUTH", None)
        if found.params:
            return b"555 5.5.4 Parameter not recognised\r\n"
        if len(size) > len(str(self._rules.most_bytes)) or int(size) > self._rules.most_bytes:
            return _TOO_LARGE
        self._envelope = Envelope()
        return _OK

    def _rcpt(self, rest: str) -> bytes:
        if self._envelope is None:
            return _ORDER
        found = commands.path(rest, "TO")
        if found is None:
            return _SYNTAX
        if found.params:
            return b"555 5.5.4 Parameter not recognised\r\n"
        if len(self._envelope.recipients) >= MOST_RECIPIENTS:
            return b"452 4.5.3 Too many recipients; send the rest in another transaction\r\n"
        channel = self._runtime.channels["email"]
        try:
            address = channel.normalise(found.address, field="RCPT")
        except Refused as error:
            return _line("550 5.1.3", error)
        if address not in self._envelope.recipients:
            self._envelope.recipients.append(address)
        return b"250 2.1.5 Ok\r\n"

    async def _data(self, rest: str) -> bytes:
        if rest:
            return _SYNTAX
        account, envelope = self._account, self._envelope
        if account is None or envelope is None or not envelope.recipients:
            return _ORDER if envelope is None else b"554 5.5.1 No valid recipients\r\n"
        await self._wire.say(b"354 Go ahead\r\n")
        self._envelope = None
        with self._rules.room.held(account.tenant_id) as held:
            body = await self._wire.message(self._rules.most_bytes, held.take)
            if body is None:
                return _NO_ROOM if held.is_refused else _TOO_LARGE
            return await self._accept(account, body, envelope.recipients)

    async def _accept(self, account: intake.Account, body: bytes, recipients: list[str]) -> bytes:
        """Accept a message; 250 is said after the commit, never before."""
        try:
            async with self._rules.reading:
                found = await asyncio.to_thread(letter.read, body)
            ids = await intake.accept(self._runtime, account, found, recipients)
        except RefusedMany as many:
            return _line("550 5.6.0", many.errors[0])
        except Refused as error:
            if error.code == "bare_line_end":
                # where one server sees the end of a message another does not: say nothing more on this connection
                raise Gone(_line("550 5.6.0", error)) from None
            return _line(_status(error), error)
        except Unavailable:
            return _LOCAL
        except OutriderError as error:
            _log.exception("submission_broken", code=error.code)
            return _LOCAL
        _log.info("submitted", ip=self._wire.peer, who=account.name, count=len(ids), first=str(ids[0]))
        return f"250 2.0.0 Accepted as {ids[0]}{f' and {len(ids) - 1} more' if len(ids) > 1 else ''}\r\n".encode()


def _status(error: Refused) -> str:
    match error.http_status:
        case HTTPStatus.CONFLICT:
            return "451 4.3.0"
        case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
            return "550 5.7.1"
        case HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            return "552 5.3.4"
    return "550 5.6.0"


def _line(status: str, error: Refused) -> bytes:
    """An answer of one line in ASCII, whatever the error quotes."""
    text = f"{status} {error.message} [{error.code}]".encode("ascii", "replace").decode()
    return "".join(c if c.isprintable() else "?" for c in text)[:480].encode() + b"\r\n"


def _is_loopback(peer: str) -> bool:
    try:
        return ip_address(peer).is_loopback
    except ValueError:
        return False
