"""Letters that come back: delivery status notifications and complaints, read as values. Pure.

Owns what such a letter says; which message it is about is said by the address it came to, never by its content, which
anybody can write. Everything in it is a stranger's: sizes and counts are bounded, text is made printable and cut.

Source:  RFC 3464 (delivery status), RFC 3462 and 6522 (multipart/report), RFC 5965 (abuse reports), RFC 3834 (replies
by machines), RFC 3463 (status codes)
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesParser
from email.policy import compat32
from typing import Final, Literal

from outrider.plugins.providers.smtp.replies import Reply, Step, is_about_mailbox, is_gone, judge

Kind = Literal["bounced", "delayed", "delivered", "complaint", "reply", "unknown"]

MOST_BYTES: Final = 1 << 20
"""What is read of a letter; the rest is the returned message."""

_MOST_PARTS: Final = 30
_MOST_TEXT: Final = 20_000
_LONGEST_DETAIL: Final = 240
_STATUS: Final = re.compile(r"\b([245])\.(\d{1,3})\.(\d{1,3})\b")
_UNPRINTABLE: Final = re.compile(r"[^\x20-\x7e]+")
_KINDS: Final[dict[str, Kind]] = {
    "failed": "bounced",
    "delayed": "delayed",
    "delivered": "delivered",
    "relayed": "delivered",
    "expanded": "delivered",
}
_COMPLAINTS: Final = frozenset({"abuse", "fraud", "virus", "opt-out", "opt-out-list", "other"})


@dataclass(frozen=True, slots=True)
class Report:
    """What a letter says about one message.

    kind     reply: written by a machine in somebody's place; unknown: it says nothing about a delivery
    status   enhanced status code, or empty; `cause` in the words of contracts/outcome.py, empty except for a bounce
    is_hard  the address will never work: it belongs on the do-not-contact list
    is_soft  it could not be reached for now: that counts
    """

    kind: Kind
    status: str = ""
    cause: str = ""
    is_hard: bool = False
    is_soft: bool = False
    detail: str = ""


_UNKNOWN: Final = Report("unknown")


def read(letter: bytes, *, has_null_sender: bool) -> Report:
    """What a letter says; never raises.

    Takes:   letter: as received, CRLF or LF; only its first MiB is read. has_null_sender: its envelope sender was `<>`,
             as notifications have it: only then a letter without the standard form may be a bounce.
    """
    try:
        message = BytesParser(policy=compat32).parsebytes(letter[:MOST_BYTES])
        return _read(message, has_null_sender=has_null_sender)
    except (LookupError, ValueError, RecursionError, AttributeError, TypeError):
        # the library tolerates nearly everything, but not quite; whatever it cannot read says nothing
        return _UNKNOWN


def _read(message: Message, *, has_null_sender: bool) -> Report:
    parts = list(_parts(message))
    for part in parts:
        kind = part.get_content_type()
        if kind == "message/feedback-report":
            return _of_complaint(part)
        if kind in {"message/delivery-status", "message/global-delivery-status"}:
            return _of_status(part)
    if _is_reply(message):
        return Report("reply")
    return _of_text(parts) if has_null_sender else _UNKNOWN


def _parts(message: Message) -> Iterator[Message]:
    """The parts of a letter, those of the message that came back left out: what it says is not about this delivery."""
    waiting = [message]
    for _ in range(_MOST_PARTS):
        if not waiting:
            return
        part = waiting.pop(0)
        yield part
        content = part.get_payload()
        if part.get_content_maintype() == "multipart" and isinstance(content, list):
            waiting += [each for each in content if isinstance(each, Message)]


def _blocks(part: Message) -> list[Message]:
    """The blocks of fields of a status or feedback part, whichever way the library took it apart."""
    content = part.get_payload()
    found = [each for each in content if isinstance(each, Message)][:_MOST_PARTS] if isinstance(content, list) else []
    if len(found) == 1 and isinstance(found[0].get_payload(), str):  # a message in its eyes: the rest is its text
        return [found[0], *_fields(str(found[0].get_payload()).encode("utf-8", "replace"))]
    payload = part.get_payload(decode=True)  # some senders encode it, which the standard forbids
    return found or _fields(payload if isinstance(payload, bytes) else b"")


def _fields(text: bytes) -> list[Message]:
    blocks = re.split(rb"\r?\n\r?\n", text[:_MOST_TEXT])[:_MOST_PARTS]
    return [BytesParser(policy=compat32).parsebytes(block + b"\n\n", headersonly=True) for block in blocks]


def _of_complaint(part: Message) -> Report:
    for block in _blocks(part):
        kind = str(block.get("Feedback-Type", "")).strip().lower()
        if kind in _COMPLAINTS:
            return Report("complaint", detail=_printable(f"{kind} {block.get('User-Agent', '')}"))
        if kind:
            return _UNKNOWN  # not-spam: the opposite of a complaint
    return _UNKNOWN


def _of_status(part: Message) -> Report:
    """The first recipient's block: a message of ours has one recipient."""
    for block in _blocks(part):
        action = str(block.get("Action", "")).strip().lower().split(" ")[0]
        kind = _KINDS.get(action)
        if kind is None:
            continue
        status = _STATUS.search(str(block.get("Status", "")))
        diagnostic = _diagnostic(str(block.get("Diagnostic-Code", "")))
        code = status[0] if status else ""
        if kind == "bounced":
            return _bounced(code, diagnostic)
        return Report(kind, code, detail=diagnostic)
    return _UNKNOWN


def _of_text(parts: list[Message]) -> Report:
    """A bounce in words, as some servers still write it: the first status code that stands in it."""
    for part in parts:
        if part.get_content_type() != "text/plain":
            continue
        payload = part.get_payload(decode=True)
        text = (payload if isinstance(payload, bytes) else b"")[:_MOST_TEXT].decode("ascii", "replace")
        found = _STATUS.search(text)
        if found is None or found[1] == "2":
            continue
        line = text[text.rfind("\n", 0, found.start()) + 1 :].partition("\n")[0]
        return _bounced(found[0], _printable(line))
    return _UNKNOWN


def _bounced(status: str, diagnostic: str) -> Report:
    """A failure; a code of class 4 here means that it was tried until it was given up."""
    reply = Reply(
        int(f"{status[:1] if status[:1] in {'4', '5'} else '5'}50"),
        f"550 {status} {diagnostic}".encode("ascii", "replace"),
    )
    cause = "mailbox_unavailable" if not status else judge(Step.RCPT, reply).cause
    is_hard = is_gone(status)
    return Report(
        "bounced", status, cause, is_hard, not is_hard and is_about_mailbox(Step.RCPT, cause, status), diagnostic
    )


def _diagnostic(text: str) -> str:
    kind, mark, words = text.partition(";")
    return _printable(words if mark and len(kind) < _MOST_PARTS else text)


def _printable(text: str) -> str:
    return " ".join(_UNPRINTABLE.sub(" ", text).split())[:_LONGEST_DETAIL]


def _is_reply(message: Message) -> bool:
    """Whether a machine answers in somebody's place: on holiday, thank you for your message."""
    submitted = str(message.get("Auto-Submitted", "no")).strip().lower()
    if submitted.startswith("auto-replied"):
        return True
    precedence = str(message.get("Precedence", "")).strip().lower()
    return precedence == "auto_reply" or any(name in message for name in ("X-Autoreply", "X-Autorespond"))
