"""One conversation of a mail server that brings something back: for which message, what it says.

Owns which addresses are taken. Whom it is from is asked only whether it is nobody (`<>`), as notifications have it. 250
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
from outrider.interfaces.smtp.conversation import LATER, SYNTAX, TOO_MANY, TOO_MANY_ERRORS, Conversation
from outrider.interfaces.smtp.room import Rules
from outrider.interfaces.smtp.wire import Wire

_log = structlog.get_logger(__name__)
MOST_RECIPIENTS: Final = 10
_MOST_WRONG: Final = 5
"""Addresses that are none of ours, after which the conversation ends: guessing must not be cheap."""


@dataclass(slots=True)
class Envelope:
    """A transaction under way. `messages`: tenant and message of each address it is for."""

    has_null_sender: bool
    messages: list[tuple[UUID, UUID]] = field(default_factory=list)

    @property
    def is_for_nobody(self) -> bool:
        """Whether no address of ours was named yet."""
        return not self.messages


class Session(Conversation[Envelope]):
    """One connection's conversation."""

    purpose = "returns"

    def __init__(self, wire: Wire, intake: Intake, rules: Rules, stopping: asyncio.Event) -> None:
        super().__init__(wire, rules, stopping)
        self._intake = intake
        self._wrong = 0

    def farewell(self) -> bytes | None:
        """Whoever guesses is sent away."""
        return TOO_MANY_ERRORS if self._wrong >= _MOST_WRONG else super().farewell()

    def begin(self, rest: str) -> Envelope | bytes:
        """MAIL; what else a server says about it means nothing here."""
        found = self.sender_of(rest)
        return found if isinstance(found, bytes) else Envelope(has_null_sender=not found.address)

    def add(self, envelope: Envelope, rest: str) -> bytes:
        """RCPT: the return address of one of our messages."""
        found = commands.path(rest, "TO")
        if found is None:
            return SYNTAX
        if len(envelope.messages) >= MOST_RECIPIENTS:
            return TOO_MANY
        message = self._intake.message_of(found.address)
        if message is None:
            self._wrong += 1
            return b"550 5.1.1 Nothing of ours comes back to this address\r\n"
        if message not in envelope.messages:
            envelope.messages.append(message)
        return b"250 2.1.5 Ok\r\n"

    def holder(self, envelope: Envelope) -> UUID:
        """Letters are about messages of several tenants: all share one room."""
        del envelope
        return NIL

    async def keep(self, envelope: Envelope, body: bytes) -> bytes:
        """Keep what a letter says; 250 is said after the commit, never before."""
        try:
            async with self.rules.reading:
                said = await self._intake.keep(envelope.messages, body, has_null_sender=envelope.has_null_sender)
        except OutriderError as error:
            _log.warning("return_not_kept", code=error.code)
            return LATER
        _log.info("returned", ip=self.wire.peer, said=said, count=len(envelope.messages))
        return f"250 2.0.0 Taken: {said}\r\n".encode()
