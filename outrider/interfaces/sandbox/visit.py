"""One session's facts, and what a verdict about it does to the wire and the ledger.

Owns the records' making and the carrying out of fault verdicts; the order of commands is the dialogue's.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from outrider.interfaces.sandbox.commands import reply
from outrider.interfaces.sandbox.content import DataStream
from outrider.interfaces.sandbox.faults import ALL_FEATURES, Verdict
from outrider.interfaces.sandbox.house import House
from outrider.interfaces.sandbox.ledger import Outcome, Owner, Record, Ticket
from outrider.interfaces.sandbox.rules import Defer, Drop, Greylist, Refuse

_CLOSING_CODE: Final = 421
_TOO_MANY_ERRORS: Final = b"421 4.7.0 Too many errors, closing\r\n"


class Wire(Owner, Protocol):
    """The connection, as the dialogue uses it. Everything said leaves in the order in which it was said."""

    is_tls: bool

    def say(self, answer: bytes) -> None:
        """Queue an answer."""
        ...

    def record(self, ticket: Ticket) -> None:
        """Queue the ticket's answer, to leave once its records are on disk."""
        ...

    def delay(self, seconds: float) -> None:
        """Hold back whatever is said from here on, and hear nothing, for so long."""
        ...

    def close(self, *, is_abrupt: bool = False) -> None:
        """Close once everything said has left, hear nothing more; abruptly: without waiting for the client."""
        ...

    def start_tls(self) -> None:
        """Turn to TLS once everything said has left; forget what was heard in the clear."""
        ...

    def expect_data(self, stream: DataStream) -> None:
        """What comes next is a message, not a command."""
        ...


class Named(msgspec.Struct, frozen=True, gc=False):
    """What the ledger says about a message's content."""

    message_id: str | None = None
    outrider_ids: dict[str, str] = {}
    size_bytes: int = 0
    sha256: str | None = None


UNNAMED: Final = Named()


@dataclass(frozen=True, slots=True)
class Suffered:
    """What a stage had to bear: whether it is over with it, and what goes into the record."""

    is_over: bool = False
    fault: str | None = None
    is_multiline: bool = False


UNHARMED: Final = Suffered()


class Visit:
    """The facts of one session that outlive a message."""

    __slots__ = (
        "auth_user",
        "error_count",
        "features",
        "house",
        "is_extended",
        "is_greeted",
        "message_count",
        "session_id",
        "wire",
    )

    def __init__(self, wire: Wire, house: House) -> None:
        self.wire = wire
        self.house = house
        self.session_id = house.next_session_id()
        self.auth_user: str | None = None
        self.features = ALL_FEATURES
        self.is_greeted = False
        self.is_extended = False
        self.error_count = 0
        self.message_count = 0

    @property
    def size_limit_bytes(self) -> int:
        """The greatest message of this session."""
        return self.features.size_bytes or self.house.options.max_message_bytes

    def forget_greeting(self) -> None:
        """After STARTTLS the client is a stranger again [RFC 3207 4.2]."""
        self.is_greeted = self.is_extended = False
        self.auth_user = None
        self.features = ALL_FEATURES

    def error(self, answer: bytes) -> None:
        """Answer a mistake of the client; too many end the session."""
        self.error_count += 1
        self.house.counts["commands_in_error"] += 1
        self.wire.say(answer)
        if self.error_count >= self.house.options.max_errors:
            self.wire.say(_TOO_MANY_ERRORS)
            self.wire.close()

    def note(
        self,
        outcome: Outcome,
        stage: str,
        answer: bytes,
        *,
        mail_from: str | None = None,
        params_text: str = "",
        recipients: Sequence[str] | None = None,
        named: Named = UNNAMED,
        queue_id: str | None = None,
        fault: str | None = None,
        body: bytes | None = None,
    ) -> None:
        """Record a verdict, one line per recipient (one without recipient if None), and answer once that is on disk."""
        at_ns = time.time_ns()
        boot_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        is_tls = self.wire.is_tls
        said = answer[:-2].decode("ascii", "replace")
        records = [
            Record(
                seq=0,
                at_ns=at_ns,
                boot_ns=boot_ns,
                outcome=outcome,
                stage=stage,
                mail_from=mail_from,
                rcpt_to=recipient,
                message_id=named.message_id,
                outrider_ids=named.outrider_ids,
                size_bytes=named.size_bytes,
                sha256=named.sha256,
                session=self.session_id,
                queue_id=queue_id,
                is_tls=is_tls,
                auth_user=self.auth_user,
                mail_params=params_text,
                reply=said,
                fault=fault,
            )
            for recipient in (recipients if recipients is not None else (None,))
        ]
        self.wire.record(Ticket(self.wire, answer, records, body))

    def suffer(
        self,
        stage: str,
        *,
        mail_from: str | None = None,
        params_text: str = "",
        recipients: Sequence[str] | None = None,
        named: Named = UNNAMED,
    ) -> Suffered:
        """Let the fault book have its say, and carry it out: delay, refuse, defer or drop, with a record."""
        verdict = self.house.book.judge(stage, mail_from or "", recipients or ())
        if verdict is None:
            return UNHARMED
        if verdict.delay_s:
            self.wire.delay(verdict.delay_s)
        rule = verdict.rule
        answer = b""
        outcome: Outcome = "dropped_before_dot"
        is_closing = True
        match rule:
            case Refuse() | Defer():
                answer = reply(rule.code, rule.text, rule.enhanced)
                outcome = "refused" if isinstance(rule, Refuse) else "deferred"
                is_closing = rule.code == _CLOSING_CODE or stage == "banner"
            case Greylist():
                answer, outcome, is_closing = reply(450, rule.text, "4.7.1"), "deferred", False
            case Drop():
                pass
            case _:
                return _borne(verdict)
        self.note(
            outcome,
            stage,
            answer,
            mail_from=mail_from,
            params_text=params_text,
            recipients=recipients,
            named=named,
            fault=verdict.name,
        )
        if is_closing:
            self.wire.close(is_abrupt=isinstance(rule, Drop))
        return Suffered(is_over=True, fault=verdict.name)


def _borne(verdict: Verdict) -> Suffered:
    return Suffered(fault=verdict.name, is_multiline=verdict.is_multiline)
