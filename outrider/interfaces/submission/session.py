"""One conversation of a program that submits: who is it, for whom, what.

Owns signing in and what is taken. Signing in needs TLS or loopback; mail needs signing in; 250 after the message means
that it is committed. Never keeps, logs or repeats a key.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from ipaddress import ip_address
from typing import Final
from uuid import UUID

import structlog

from outrider.base.errors import OutriderError, Refused, RefusedMany, Unavailable
from outrider.data.again import again_if_undone
from outrider.data.runtime import Runtime
from outrider.domain.messages.quota import FULL_CODES
from outrider.interfaces.smtp import commands
from outrider.interfaces.smtp.conversation import LATER, ORDER, PARAMETER, SYNTAX, TOO_MANY, UNKNOWN, Conversation
from outrider.interfaces.smtp.room import Rules
from outrider.interfaces.smtp.wire import COMMAND_WITHIN_S, Gone, Wire
from outrider.interfaces.submission import intake, letter
from outrider.interfaces.submission.figures import IntakeFigures

_log = structlog.get_logger(__name__)
MOST_RECIPIENTS: Final = 100
_MOST_SIGN_INS: Final = 3
SIGN_IN_WITHIN_S: Final = 60.0
"""Whoever has not signed in by then gives the place to others."""

_SLOW_S: Final = 1.0
"""After a wrong key the next answer waits this long."""

_SIGN_IN_FIRST: Final = b"530 5.7.0 Sign in first\r\n"


@dataclass(slots=True)
class Envelope:
    """A transaction under way; who it is from is the sender's business, not the envelope's."""

    account: intake.Account
    recipients: list[str] = field(default_factory=list)

    @property
    def is_for_nobody(self) -> bool:
        """Whether no recipient was named yet."""
        return not self.recipients


class Session(Conversation[Envelope]):
    """One connection's conversation."""

    purpose = "submission"

    def __init__(
        self, wire: Wire, runtime: Runtime, rules: Rules, stopping: asyncio.Event, figures: IntakeFigures
    ) -> None:
        super().__init__(wire, rules, stopping)
        self._runtime = runtime
        self._figures = figures
        self._account: intake.Account | None = None
        self._sign_ins = 0
        self._sign_in_by_s = time.monotonic() + SIGN_IN_WITHIN_S

    def farewell(self) -> bytes | None:
        """Whoever does not sign in gives the place to others."""
        return b"421 4.7.0 Too long without signing in\r\n" if self.patience_s <= 0 else super().farewell()

    @property
    def patience_s(self) -> float:
        """How long the next command may take."""
        return COMMAND_WITHIN_S if self._account is not None else self._sign_in_by_s - time.monotonic()

    async def other(self, verb: str, rest: str) -> bytes:
        """AUTH."""
        return await self._sign_in(rest) if verb == "AUTH" else UNKNOWN

    def offers(self) -> list[str]:
        """AUTH, where a key may be said."""
        return ["AUTH PLAIN LOGIN"] if self._may_sign_in else []

    def forget(self) -> None:
        """Who signed in."""
        self._account = None

    @property
    def _may_sign_in(self) -> bool:
        """Whether a key may be said here: nobody else reads along."""
        return self.wire.is_tls or _is_loopback(self.wire.peer)

    async def _sign_in(self, rest: str) -> bytes:
        """AUTH PLAIN and LOGIN; the password is an API key, the user may be anything."""
        if not self._may_sign_in:
            return b"538 5.7.11 Encryption required: STARTTLS first\r\n"
        if self._account is not None or self.envelope is not None or not self.is_greeted:
            return ORDER
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
        await self.wire.say(question)
        line = await self.wire.line(self.patience_s)
        return None if line is None or line == b"*" else commands.unbase64(line)

    async def _check(self, key: str) -> bytes:
        try:
            self._account = await intake.sign_in(self._runtime, key)
        except OutriderError:
            return b"454 4.7.0 Cannot check this now, try again later\r\n"
        if self._account is not None:
            return b"235 2.7.0 Signed in\r\n"
        self._sign_ins += 1
        _log.warning("login_failed", ip=self.wire.peer, via="smtp")
        await asyncio.sleep(_SLOW_S)
        if self._sign_ins >= _MOST_SIGN_INS:
            return b"421 4.7.0 Too many wrong keys\r\n"
        return b"535 5.7.8 This is no key that may send\r\n"

    def refuses_mail(self) -> bytes | None:
        """Mail needs signing in."""
        return _SIGN_IN_FIRST if self._account is None else None

    def begin(self, rest: str) -> Envelope | bytes:
        """MAIL."""
        found = self.sender_of(rest)
        if isinstance(found, bytes):
            return found
        found.params.pop("AUTH", None)
        if found.params:
            return PARAMETER
        return _SIGN_IN_FIRST if self._account is None else Envelope(self._account)

    def add(self, envelope: Envelope, rest: str) -> bytes:
        """RCPT: an address of the channel."""
        found = commands.path(rest, "TO")
        if found is None:
            return SYNTAX
        if found.params:
            return PARAMETER
        if len(envelope.recipients) >= MOST_RECIPIENTS:
            return TOO_MANY
        try:
            address = self._runtime.channels["email"].normalise(found.address, field="RCPT")
        except Refused as error:
            return _line("550 5.1.3", error)
        if address not in envelope.recipients:
            envelope.recipients.append(address)
        return b"250 2.1.5 Ok\r\n"

    def holder(self, envelope: Envelope) -> UUID:
        """The tenant whose key it is."""
        return envelope.account.tenant_id

    async def keep(self, envelope: Envelope, body: bytes) -> bytes:
        """Accept a message; 250 is said after the commit, never before."""
        account = envelope.account
        try:
            async with self.rules.reading:
                found = await asyncio.to_thread(letter.read, body)
            ids = await again_if_undone(partial(intake.accept, self._runtime, account, found, envelope.recipients))
        except RefusedMany as many:
            return _line("550 5.6.0", many.errors[0])
        except Refused as error:
            if error.code == "bare_line_end":
                # where one server sees the end of a message another does not: say nothing more on this connection
                raise Gone(_line("550 5.6.0", error)) from None
            self._figures.turned_away(error.code)
            return _line(_status(error), error)
        except Unavailable as error:
            self._figures.turned_away(error.code)
            return _line("452 4.3.1", error) if error.code in FULL_CODES else LATER
        except OutriderError as error:
            _log.exception("submission_broken", code=error.code)
            return LATER
        _log.info("submitted", ip=self.wire.peer, who=account.name, count=len(ids), first=str(ids[0]))
        return f"250 2.0.0 Accepted as {ids[0]}{f' and {len(ids) - 1} more' if len(ids) > 1 else ''}\r\n".encode()


def _status(error: Refused) -> str:
    match error.http_status:
        case HTTPStatus.CONFLICT:
            return "451 4.3.0"
        case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
            return "550 5.7.1"
        case HTTPStatus.TOO_MANY_REQUESTS:
            return "452 4.3.1"
        case HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            return "552 5.3.4"
    return "550 5.6.0"


def _line(status: str, error: OutriderError) -> bytes:
    """An answer of one line in ASCII, whatever the error quotes."""
    text = f"{status} {error.message} [{error.code}]".encode("ascii", "replace").decode()
    return "".join(c if c.isprintable() else "?" for c in text)[:480].encode() + b"\r\n"


def _is_loopback(peer: str) -> bool:
    try:
        return ip_address(peer).is_loopback
    except ValueError:
        return False
