"""One message from MAIL to the final dot: who it is for, whether it may stand, what the ledger says of it.

Owns the envelope and the verdict at the dot; never answers anything that is not about this message.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from outrider.interfaces.sandbox.commands import Path, in_three_lines, parse_mail, reply
from outrider.interfaces.sandbox.content import DataStream, has_longer_line, identify
from outrider.interfaces.sandbox.ledger import Outcome
from outrider.interfaces.sandbox.visit import UNNAMED, Named, Suffered, Visit

_SENDER_OK: Final = b"250 2.1.0 Sender ok\r\n"
_RECIPIENT_OK: Final = b"250 2.1.5 Recipient ok\r\n"
_GO_AHEAD: Final = b"354 End data with <CR><LF>.<CR><LF>\r\n"
_NEED_RECIPIENT: Final = b"503 5.5.1 Need RCPT before DATA\r\n"
_NO_VALID_RECIPIENTS: Final = b"554 5.5.1 No valid recipients\r\n"
_TOO_MANY_RECIPIENTS: Final = b"452 4.5.3 Too many recipients\r\n"
_NEEDS_SMTPUTF8: Final = b"553 5.6.7 Address needs SMTPUTF8\r\n"
_UNKNOWN_PARAM: Final = b"555 5.5.4 Parameter not recognized or not implemented\r\n"
_BAD_PARAM_VALUE: Final = b"501 5.5.4 Bad parameter value\r\n"
_TOO_LARGE: Final = b"552 5.3.4 Message larger than the SIZE limit\r\n"
_LONG_LINE: Final = b"554 5.6.0 Text line too long\r\n"
_NOT_7BIT: Final = b"554 5.6.3 8-bit data, but 8BITMIME was not offered\r\n"
_NEED_AUTH: Final = b"530 5.7.0 Authentication required\r\n"


class Transaction:
    """The message under way in one session."""

    __slots__ = ("is_utf8", "mail_from", "params_text", "recipients", "refused_count", "visit")

    def __init__(self, visit: Visit, path: Path) -> None:
        self.visit = visit
        self.mail_from = path.address
        self.params_text = path.params_text
        self.is_utf8 = "SMTPUTF8" in path.params
        self.recipients: list[str] = []
        self.refused_count = 0

    def add(self, path: Path) -> None:
        """Answer RCPT: take a recipient, or refuse it."""
        visit = self.visit
        if path.params_text:
            self._turn_away(path.address, _UNKNOWN_PARAM, "refused")
        elif not self.is_utf8 and not path.address.isascii():
            self._turn_away(path.address, _NEEDS_SMTPUTF8, "refused")
        elif len(self.recipients) >= visit.house.options.max_recipients:
            self._turn_away(path.address, _TOO_MANY_RECIPIENTS, "deferred")
        else:
            answer = _RECIPIENT_OK
            if not visit.house.book.is_empty:
                suffered = self._suffer("rcpt", [path.address])
                if suffered.is_over:
                    self.refused_count += 1
                    return
                if suffered.is_multiline:
                    answer = in_three_lines(answer)
            self.recipients.append(path.address)
            visit.wire.say(answer)

    def open(self) -> None:
        """Answer DATA. When it is refused the envelope stays as it is: the client has to send RSET."""
        visit = self.visit
        book = visit.house.book
        answer = _GO_AHEAD
        if not self.recipients:
            if not self.refused_count:
                visit.error(_NEED_RECIPIENT)
                return
            if book.judge("eager_data") is None:
                visit.wire.say(_NO_VALID_RECIPIENTS)
                return
        elif not book.is_empty:
            suffered = self._suffer("data", self.recipients)
            if suffered.is_over:
                return
            if suffered.is_multiline:
                answer = in_three_lines(answer)
        visit.wire.say(answer)
        stream = DataStream(visit.size_limit_bytes)
        stream.is_watched = book.has("before_dot") and bool(self.recipients)
        visit.wire.expect_data(stream)

    def watch(self, stream: DataStream) -> bool:
        """Let a rule drop the connection while the message is under way; asked once its headers are there.

        Gives:   whether the connection was dropped.
        """
        stream.is_watched = False
        message_id, ids = identify(stream.head())
        return self._suffer("before_dot", self.recipients, Named(message_id, ids)).is_over

    def finish(self, stream: DataStream) -> None:
        """Say what becomes of the whole message: the answer to the final dot."""
        options = self.visit.house.options
        if not self.recipients:
            self.visit.wire.say(_NO_VALID_RECIPIENTS)
            return
        if stream.is_too_large or stream.size_bytes > self.visit.size_limit_bytes:
            self._refuse(_TOO_LARGE, Named(size_bytes=stream.size_bytes))
            return
        message = stream.message()
        message_id, ids = identify(message)
        named = Named(message_id, ids, len(message), hashlib.sha256(message).hexdigest())
        if options.longest_text_line_bytes and has_longer_line(message, options.longest_text_line_bytes):
            self._refuse(_LONG_LINE, named)
        elif self.visit.features.is_8bitmime_off and not message.isascii():
            self._refuse(_NOT_7BIT, named)
        else:
            self._take(message, named)

    def smuggles(self, stream: DataStream) -> None:
        """Refuse a message with a bare CR or LF at once, and end the session: what follows is not to be trusted."""
        message_id, ids = identify(stream.head())
        self._refuse(reply(521, f"{stream.defect} received, see RFC 5321 2.3.8", "5.5.2"), Named(message_id, ids))
        self.visit.wire.close()

    def refuse_eager(self, answer: bytes) -> None:
        """Refuse a client that sent on without having been allowed to."""
        self._note("refused", "data", answer)

    def abandon(self, stream: DataStream) -> None:
        """The connection went away in the middle of the message: record that nothing was taken."""
        if self.recipients:
            message_id, ids = identify(stream.head())
            self._note("dropped_before_dot", "before_dot", b"", Named(message_id, ids, stream.size_bytes))

    def _take(self, message: bytes, named: Named) -> None:
        visit = self.visit
        fault: str | None = None
        is_multiline = False
        if not visit.house.book.is_empty:
            suffered = self._suffer("dot", self.recipients, named)
            if suffered.is_over:
                return
            fault, is_multiline = suffered.fault, suffered.is_multiline
            lost = visit.house.book.judge("after_dot", self.mail_from, self.recipients)
            if lost is not None:
                self._note("dropped_after_dot", "after_dot", b"", named, fault=lost.name, body=message)
                visit.wire.close(is_abrupt=True)
                return
        visit.message_count += 1
        queue_id = f"{visit.session_id}.{visit.message_count}"
        answer = b"250 2.0.0 Ok: queued as %b\r\n" % queue_id.encode()
        if is_multiline:
            answer = in_three_lines(answer)
        self._note("accepted", "dot", answer, named, queue_id=queue_id, fault=fault, body=message)

    def _turn_away(self, address: str, answer: bytes, outcome: Outcome) -> None:
        """Refuse one recipient by the rules of the house."""
        self.refused_count += 1
        self._note(outcome, "rcpt", answer, recipients=[address])

    def _refuse(self, answer: bytes, named: Named) -> None:
        """Refuse the whole message at the dot by the rules of the house."""
        self._note("refused", "dot", answer, named)

    def _note(
        self,
        outcome: Outcome,
        stage: str,
        answer: bytes,
        named: Named = UNNAMED,
        *,
        recipients: Sequence[str] | None = None,
        queue_id: str | None = None,
        fault: str | None = None,
        body: bytes | None = None,
    ) -> None:
        self.visit.note(
            outcome,
            stage,
            answer,
            mail_from=self.mail_from,
            params_text=self.params_text,
            recipients=recipients or self.recipients,
            named=named,
            queue_id=queue_id,
            fault=fault,
            body=body,
        )

    def _suffer(self, stage: str, recipients: Sequence[str], named: Named = UNNAMED) -> Suffered:
        return self.visit.suffer(
            stage, mail_from=self.mail_from, params_text=self.params_text, recipients=recipients, named=named
        )


def open_transaction(visit: Visit, line: bytes) -> Transaction | None:
    """Answer MAIL: open a transaction, or refuse it."""
    options = visit.house.options
    path = parse_mail(line)
    if isinstance(path, bytes):
        visit.error(path)
        return None
    if options.is_auth_required and visit.auth_user is None:
        visit.note("refused", "mail", _NEED_AUTH, mail_from=path.address, params_text=path.params_text)
        return None
    complaint = _complaint(visit, path)
    if complaint is not None:
        visit.note("refused", "mail", complaint, mail_from=path.address, params_text=path.params_text)
        return None
    answer = _SENDER_OK
    if not visit.house.book.is_empty:
        suffered = visit.suffer("mail", mail_from=path.address, params_text=path.params_text)
        if suffered.is_over:
            return None
        if suffered.is_multiline:
            answer = in_three_lines(answer)
    visit.wire.say(answer)
    return Transaction(visit, path)


def _complaint(visit: Visit, path: Path) -> bytes | None:
    """What is wrong with the parameters of MAIL, given what this session was offered."""
    if not path.params:
        return None if path.address.isascii() else _NEEDS_SMTPUTF8
    offered = _offered_params(visit)
    for name, value in path.params.items():
        if name not in offered:
            return _UNKNOWN_PARAM
        if not _PARAM_CHECKS[name](value):
            return _BAD_PARAM_VALUE
    size = path.params.get("SIZE")
    if size is not None and int(size) > visit.size_limit_bytes and visit.features.is_size_advertised:
        return _TOO_LARGE
    if not path.address.isascii() and "SMTPUTF8" not in path.params:
        return _NEEDS_SMTPUTF8
    return None


def _offered_params(visit: Visit) -> set[str]:
    """The parameters of MAIL that belong to the extensions offered."""
    if not visit.is_extended:
        return set()
    names = {"SIZE"}
    if not visit.features.is_8bitmime_off:
        names.add("BODY")
    if not visit.features.is_smtputf8_off:
        names.add("SMTPUTF8")
    if visit.house.options.credentials:
        names.add("AUTH")
    return names


_PARAM_CHECKS: Final[Mapping[str, Callable[[str | None], bool]]] = {
    "SIZE": lambda value: value is not None and re.fullmatch(r"[0-9]{1,20}", value) is not None,
    "BODY": lambda value: value is not None and value.upper() in {"7BIT", "8BITMIME"},
    "SMTPUTF8": lambda value: value is None,
    "AUTH": lambda value: value is not None,
}
