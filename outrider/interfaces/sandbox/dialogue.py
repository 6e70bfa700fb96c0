"""The order of commands in one session: who may say what, when [RFC 5321 4.1.4].

Owns greeting, extensions, AUTH, STARTTLS and the dispatch; a message is the transaction's, bytes are the wire's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Final

from outrider.interfaces.sandbox.commands import in_three_lines, parse_rcpt, reply
from outrider.interfaces.sandbox.content import DataStream
from outrider.interfaces.sandbox.house import House
from outrider.interfaces.sandbox.sasl import MECHANISMS, Exchange
from outrider.interfaces.sandbox.transaction import Transaction, open_transaction
from outrider.interfaces.sandbox.visit import Visit, Wire

LONGEST_COMMAND_BYTES: Final = 1_024
LONGEST_AUTH_BYTES: Final = 12_288

_OK: Final = b"250 2.0.0 Ok\r\n"
_BYE: Final = b"221 2.0.0 Bye\r\n"
_UNKNOWN: Final = b"500 5.5.2 Command not recognized\r\n"
_NOT_IMPLEMENTED: Final = b"502 5.5.1 Command not implemented\r\n"
_NO_ARGUMENT: Final = b"501 5.5.4 Syntax: no argument is taken\r\n"
_GREET_FIRST: Final = b"503 5.5.1 Send EHLO or HELO first\r\n"
_NEED_MAIL: Final = b"503 5.5.1 Need MAIL first\r\n"
_NESTED_MAIL: Final = b"503 5.5.1 Sender already given, send RSET first\r\n"
_IN_TRANSACTION: Final = b"503 5.5.1 Not while a message is under way\r\n"
_NEED_HOST: Final = b"501 5.5.4 Syntax: EHLO or HELO with one host name\r\n"
_NEED_TLS: Final = b"530 5.7.0 Must issue a STARTTLS command first\r\n"
_TLS_READY: Final = b"220 2.0.0 Ready to start TLS\r\n"
_TLS_ACTIVE: Final = b"503 5.5.1 TLS is already active\r\n"
_AUTH_OK: Final = b"235 2.7.0 Authentication successful\r\n"
_AUTH_WRONG: Final = b"535 5.7.8 Authentication credentials invalid\r\n"
_AUTH_DONE: Final = b"503 5.5.1 Already authenticated\r\n"
_AUTH_MECHANISM: Final = b"504 5.5.4 Unrecognized authentication mechanism\r\n"
_AUTH_MALFORMED: Final = b"501 5.5.2 Cannot decode the response\r\n"
_AUTH_CANCELLED: Final = b"501 5.7.0 Authentication cancelled\r\n"
_NOT_VERIFIED: Final = b"252 2.5.0 Cannot verify, will take a message and try\r\n"
_HELP: Final = b"214 2.0.0 EHLO HELO MAIL RCPT DATA RSET NOOP VRFY HELP AUTH STARTTLS QUIT [RFC 5321]\r\n"
_EAGER_CLIENT: Final = b"503 5.5.0 Improper use of pipelining, closing\r\n"
_NEED_ARGUMENT: Final = b"501 5.5.4 Syntax: VRFY with an address\r\n"
_AUTH_SYNTAX: Final = b"501 5.5.4 Syntax: AUTH mechanism [initial-response]\r\n"
_KNOWN_ONLY: Final = frozenset({b"EXPN", b"TURN", b"ETRN", b"BDAT", b"LHLO", b"SEND", b"SOML", b"SAML"})
_WITHOUT_ARGUMENT: Final = frozenset({b"DATA", b"RSET", b"QUIT", b"STARTTLS"})
_CONTROLS: Final = bytes([*range(32), 127])


class Dialogue:
    """One session, as commands in and answers out."""

    __slots__ = ("_exchange", "is_pipelining_offered", "transaction", "visit", "wire")

    def __init__(self, wire: Wire, house: House) -> None:
        self.wire = wire
        self.visit = Visit(wire, house)
        self.transaction: Transaction | None = None
        self.is_pipelining_offered = False
        """Whether the client may send commands before it has read the answer to the last."""
        self._exchange: Exchange | None = None

    @property
    def longest_line_bytes(self) -> int:
        """Longest line that is heard out now."""
        return LONGEST_COMMAND_BYTES if self._exchange is None else LONGEST_AUTH_BYTES

    def greet(self) -> None:
        """Say the banner."""
        answer = reply(220, f"{self.visit.house.options.hostname} ESMTP Outrider sandbox: nothing is delivered")
        if not self.visit.house.book.is_empty:
            suffered = self.visit.suffer("banner")
            if suffered.is_over:
                return
            if suffered.is_multiline:
                answer = in_three_lines(answer)
        self.wire.say(answer)

    def command(self, line: bytes) -> None:
        """Answer one line, its CRLF taken off."""
        handler = self._COMMON.get(line[:5])
        if handler is not None and self._exchange is None:
            handler(self, line)
        else:
            self._uncommon(line)

    def _uncommon(self, line: bytes) -> None:
        """Answer any line: the ones that make up a message in upper case take the short way."""
        if self._exchange is not None:
            self._respond(self._exchange, line)
            return
        word = line.partition(b" ")[0].upper()
        handler = self._HANDLERS.get(word)
        if line.translate(None, _CONTROLS) != line or (len(line) > LONGEST_COMMAND_BYTES and word != b"AUTH"):
            self.visit.error(_UNKNOWN)
        elif handler is None:
            self.visit.error(_NOT_IMPLEMENTED if word in _KNOWN_ONLY else _UNKNOWN)
        elif len(line) > len(word) and word in _WITHOUT_ARGUMENT:
            self.visit.error(_NO_ARGUMENT)
        else:
            handler(self, line)

    def data_ended(self, stream: DataStream) -> None:
        """The final dot has come."""
        transaction, self.transaction = self.transaction, None
        if transaction is not None:
            transaction.finish(stream)

    def data_is_smuggled(self, stream: DataStream) -> None:
        """A bare CR or LF has come within a message."""
        transaction, self.transaction = self.transaction, None
        if transaction is not None:
            transaction.smuggles(stream)

    def data_is_watched(self, stream: DataStream) -> bool:
        """The headers of a watched message have come; gives whether the connection was dropped over them."""
        if self.transaction is None or not self.transaction.watch(stream):
            return False
        self.transaction = None
        return True

    def data_is_lost(self, stream: DataStream) -> None:
        """The connection went away within a message."""
        transaction, self.transaction = self.transaction, None
        if transaction is not None:
            transaction.abandon(stream)

    def pipelines_unasked(self) -> None:
        """More had come before the answer could have been read, where that is not allowed."""
        transaction, self.transaction = self.transaction, None
        if transaction is not None and transaction.recipients:
            transaction.refuse_eager(_EAGER_CLIENT)
        else:
            self.visit.error(_EAGER_CLIENT)
        self.wire.close()

    def forget(self) -> None:
        """After STARTTLS nothing said before counts."""
        self.transaction = None
        self.is_pipelining_offered = False
        self.visit.forget_greeting()

    def _greeting(self, line: bytes) -> None:
        """EHLO and HELO: end any transaction, say what is offered."""
        host = line[5:]
        if not host or b" " in host:
            self.visit.error(_NEED_HOST)
            return
        if not self.visit.house.book.is_empty:
            if self.visit.suffer("ehlo").is_over:
                return
            self.visit.features = self.visit.house.book.features()
        self.transaction = None
        self.visit.is_greeted = True
        self.visit.is_extended = line[:1] in b"Ee"
        self.is_pipelining_offered = self.visit.is_extended and not self.visit.features.is_pipelining_off
        name = self.visit.house.options.hostname
        self.wire.say(reply(250, "\n".join([name, *self._extensions()]) if self.visit.is_extended else name))

    def _extensions(self) -> list[str]:
        features, options = self.visit.features, self.visit.house.options
        offered = [
            "" if features.is_pipelining_off else "PIPELINING",
            f"SIZE {self.visit.size_limit_bytes if features.is_size_advertised else options.max_message_bytes}",
            "" if features.is_8bitmime_off else "8BITMIME",
            "" if features.is_smtputf8_off else "SMTPUTF8",
            "ENHANCEDSTATUSCODES",
            "STARTTLS" if self._is_starttls_offered() else "",
            "AUTH PLAIN LOGIN" if options.credentials and (self.wire.is_tls or not options.is_tls_required) else "",
            "HELP",
        ]
        return [extension for extension in offered if extension]

    def _is_starttls_offered(self) -> bool:
        is_offered = self.visit.house.options.is_starttls_offered and not self.visit.features.is_starttls_stripped
        return is_offered and not self.wire.is_tls

    def _mail(self, line: bytes) -> None:
        if not self.visit.is_greeted:
            self.visit.error(_GREET_FIRST)
        elif self.transaction is not None:
            self.visit.error(_NESTED_MAIL)
        elif self.visit.house.options.is_tls_required and not self.wire.is_tls:
            self.visit.note("refused", "mail", _NEED_TLS)
        else:
            self.transaction = open_transaction(self.visit, line)

    def _rcpt(self, line: bytes) -> None:
        if self.transaction is None:
            self.visit.error(_NEED_MAIL)
            return
        path = parse_rcpt(line)
        if isinstance(path, bytes):
            self.visit.error(path)
            self.transaction.refused_count += 1
        else:
            self.transaction.add(path)

    def _data(self, _: bytes) -> None:
        if self.transaction is None:
            self.visit.error(_NEED_MAIL)
        else:
            self.transaction.open()

    def _rset(self, _: bytes) -> None:
        self.transaction = None
        self.wire.say(_OK)

    def _noop(self, _: bytes) -> None:
        self.wire.say(_OK)

    def _vrfy(self, line: bytes) -> None:
        self.wire.say(_NOT_VERIFIED) if len(line) > len(b"VRFY ") else self.visit.error(_NEED_ARGUMENT)

    def _help(self, _: bytes) -> None:
        self.wire.say(_HELP)

    def _quit(self, _: bytes) -> None:
        self.transaction = None
        self.wire.say(_BYE)
        self.wire.close()

    def _starttls(self, _: bytes) -> None:
        if self.wire.is_tls:
            self.visit.error(_TLS_ACTIVE)
        elif not self._is_starttls_offered():
            self.visit.error(_NOT_IMPLEMENTED)
        elif not self.visit.is_extended:
            self.visit.error(_GREET_FIRST)
        else:
            self.wire.say(_TLS_READY)
            self.wire.start_tls()

    def _auth(self, line: bytes) -> None:
        credentials = self.visit.house.options.credentials
        words = line.split(b" ")
        if not credentials:
            self.visit.error(_NOT_IMPLEMENTED)
        elif not self.visit.is_extended:
            self.visit.error(_GREET_FIRST)
        elif self.visit.auth_user is not None:
            self.visit.error(_AUTH_DONE)
        elif self.transaction is not None:
            self.visit.error(_IN_TRANSACTION)
        elif self.visit.house.options.is_tls_required and not self.wire.is_tls:
            self.visit.error(_NEED_TLS)
        elif len(words) not in {2, 3}:
            self.visit.error(_AUTH_SYNTAX)
        elif words[1].upper() not in MECHANISMS:
            self.visit.error(_AUTH_MECHANISM)
        else:
            exchange = Exchange(words[1].upper(), credentials)
            if len(words) > 2:  # noqa: PLR2004 -- AUTH, mechanism, initial response
                self._respond(exchange, words[2])
            else:
                self._exchange = exchange
                self.wire.say(exchange.question)

    def _respond(self, exchange: Exchange, line: bytes) -> None:
        """Take the next line of an AUTH exchange."""
        self._exchange = None
        match exchange.answer(line):
            case "go_on":
                self._exchange = exchange
                self.wire.say(exchange.question)
            case "right" if self.visit.house.book.judge("auth") is None:
                self.visit.auth_user = exchange.user
                self.wire.say(_AUTH_OK)
            case "right" | "wrong":
                self.visit.house.counts["auth_failures"] += 1
                self.visit.error(_AUTH_WRONG)
            case "cancelled":
                self.visit.error(_AUTH_CANCELLED)
            case "malformed":
                self.visit.error(_AUTH_MALFORMED)

    _COMMON: ClassVar[dict[bytes, Callable[[Dialogue, bytes], None]]] = {
        b"MAIL ": _mail,
        b"RCPT ": _rcpt,
        b"DATA": _data,
    }
    _HANDLERS: ClassVar[dict[bytes, Callable[[Dialogue, bytes], None]]] = {
        b"EHLO": _greeting,
        b"HELO": _greeting,
        b"MAIL": _mail,
        b"RCPT": _rcpt,
        b"DATA": _data,
        b"RSET": _rset,
        b"NOOP": _noop,
        b"VRFY": _vrfy,
        b"HELP": _help,
        b"QUIT": _quit,
        b"STARTTLS": _starttls,
        b"AUTH": _auth,
    }
