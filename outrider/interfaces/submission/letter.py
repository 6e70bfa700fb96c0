"""What a submitted message says: subject, text, HTML and files out of its bytes, and what its headers mean here.

Owns the three lists of headers: those that are used, those that are left out because the sender or the worker writes
them anew, and those that are refused because leaving them out would change what the author meant. Pure.
"""

from __future__ import annotations

import codecs
import email.errors
import email.header
import email.utils
import re
from collections.abc import Callable
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesParser
from email.policy import Compat32
from typing import Any, Final

from outrider.base.errors import Refused
from outrider.contracts.channel import Attachment
from outrider.domain.templates.attachments import check_name, check_type

SENDER, CLASS, PURPOSE = "x-outrider-sender", "x-outrider-class", "x-outrider-purpose"

USED: Final = {
    "from": "must be the address of one of the tenant's senders, unless `X-Outrider-Sender` names one",
    "subject": "the subject",
    "message-id": "with the recipient: repeated, nothing is sent twice",
    "reply-to": "only as the sender has it; anything else is refused",
    SENDER: "name or id of the sender to use",
    CLASS: "`transactional` (the default) or `bulk`",
    PURPOSE: "the purpose whose consent is asked, for bulk",
    "content-type": "text/plain, text/html and files; multipart/mixed, alternative and related without inline images",
    "content-transfer-encoding": "decoded",
    "content-disposition": "names of files",
    "mime-version": "as usual",
}
REFUSED: Final = {
    "list-unsubscribe": "Outrider writes it for bulk messages",
    "list-unsubscribe-post": "Outrider writes it for bulk messages",
    "disposition-notification-to": "receipts by mail are not passed on",
    "return-receipt-to": "receipts by mail are not passed on",
    "dkim-signature": "it would not fit the message that is sent; the sender's own key signs",
}
_REFUSED_PREFIXES: Final = ("resent-", "arc-")
_ONCE: Final = {"from", "sender", "reply-to", "to", "cc", "subject", "message-id", "date", SENDER, CLASS, PURPOSE}
_MOST_HEADERS, _LONGEST_HEADER, _MOST_PARTS = 200, 20_000, 100
_MOST_LINES, _MOST_HEADERS_OF_PARTS, _DEEPEST = 1_000_000, 2_000, 10
_LONGEST_CONTENT_HEADER: Final = 4_000
"""Their parameters are taken apart in quadratic time."""

_CODECS_THAT_ARE_NONE: Final = {"punycode", "idna", "utf-7", "unicode-escape", "raw-unicode-escape"}
"""Python knows them, mail does not: some take quadratic time, some make half characters out of letters."""

_NAME: Final = re.compile(r"[!-9;-~]{1,76}\Z")
_CONTROL: Final = re.compile("[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Letter:
    """A submitted message. `reply_to` and `sender` are empty when it names none."""

    from_address: str
    subject: str
    text: str | None
    html: str | None
    attachments: tuple[Attachment, ...]
    message_id: str
    reply_to: str
    sender: str
    message_class: str
    purpose: str


def read(body: bytes) -> Letter:
    """Take a message apart.

    Raises:  Refused(header_refused, header_repeated, malformed_message, content_refused, content_required …), whose
             field names the header.
    """
    head = body.partition(b"\r\n\r\n")[0]
    if b"\0" in body:
        raise Refused("nul_character", "a message must not contain NUL")
    ends = body.count(b"\r\n")
    if body.count(b"\r") != ends or body.count(b"\n") != ends:
        raise Refused("bare_line_end", "lines must end with CRLF")
    if ends > _MOST_LINES:
        raise Refused("malformed_message", f"has more than {_MOST_LINES} lines")
    try:
        message = _message(body)
        headers = _headers(message, head)
        text, html, files = _parts(message)
    except RecursionError:
        raise Refused("malformed_message", "is nested too deeply") from None
    except (LookupError, ValueError):  # the library tolerates nearly everything, but not quite
        raise Refused("malformed_message", "cannot be taken apart") from None
    if text is None and html is None:
        raise Refused("content_required", "has neither text nor HTML")
    return Letter(
        from_address=_address(headers.get("from", ""), "From"),
        subject=_line(headers.get("subject", ""), "Subject"),
        text=text,
        html=html,
        attachments=tuple(files),
        message_id=headers.get("message-id", "").strip(),
        reply_to=_address(headers["reply-to"], "Reply-To") if headers.get("reply-to") else "",
        sender=_line(headers.get(SENDER, ""), "X-Outrider-Sender").strip(),
        message_class=_line(headers.get(CLASS, ""), "X-Outrider-Class").strip().lower() or "transactional",
        purpose=_line(headers.get(PURPOSE, ""), "X-Outrider-Purpose").strip(),
    )


class _Bounds(Compat32):
    """The tolerant policy, which never raises, with an end: what is beyond it is refused before it is built."""

    seen: Callable[[str, str], None]

    def header_source_parse(self, sourcelines: list[str]) -> tuple[str, str]:
        """One header of the message or of a part."""
        if sum(map(len, sourcelines)) > _LONGEST_HEADER:
            name = sourcelines[0].partition(":")[0][:76]
            raise Refused("malformed_message", f"the header {name} is too long", field=name)
        name, value = super().header_source_parse(sourcelines)
        self.seen(name, value)
        return name, value


def _message(body: bytes) -> Message:
    """A message taken apart, without ever building more parts and headers than one may have."""
    parts = headers = multiparts = 0

    def made(**given: Any) -> Message:
        nonlocal parts
        parts += 1
        if parts > _MOST_PARTS + 1:
            raise Refused("malformed_message", f"has more than {_MOST_PARTS} parts")
        return Message(**given)

    def seen(name: str, value: str) -> None:
        nonlocal headers, multiparts
        headers += 1
        if headers > (_MOST_HEADERS if parts == 1 else _MOST_HEADERS_OF_PARTS):
            raise Refused("malformed_message", f"at most {_MOST_HEADERS} headers")
        if name.lower().startswith("content-") and len(value) > _LONGEST_CONTENT_HEADER:
            raise Refused("malformed_message", f"the header {name} is too long", field=name)
        multiparts += name.lower() == "content-type" and "multipart" in value.lower()
        if multiparts > _DEEPEST:
            raise Refused("malformed_message", "is nested too deeply")

    bounds = _Bounds()
    object.__setattr__(bounds, "seen", seen)  # policies are frozen
    return BytesParser(made, policy=bounds).parsebytes(body)


def _headers(message: Message, head: bytes) -> dict[str, str]:
    """The headers that are used, by their small names, after refusing those that must not be left out."""
    items = message.items()
    if len(items) > _MOST_HEADERS or len(head) > _MOST_HEADERS * _LONGEST_HEADER:
        raise Refused("malformed_message", f"at most {_MOST_HEADERS} headers")
    found: dict[str, str] = {}
    for name, value in items:
        small = name.lower()
        if not _NAME.match(name):
            raise Refused("malformed_message", f"no header may be named {name[:40]!r}")
        why = REFUSED.get(small) or ("it is of another message" if small.startswith(_REFUSED_PREFIXES) else "")
        if why:
            raise Refused("header_refused", f"the header {name} is not taken: {why}", field=name)
        if small in _ONCE and small in found:
            raise Refused("header_repeated", f"the header {name} is given twice", field=name)
        if len(str(value)) > _LONGEST_HEADER:
            raise Refused("malformed_message", f"the header {name} is too long", field=name)
        found[small] = str(value)
    if message.defects and not items:
        raise Refused("malformed_message", "does not begin with headers")
    return found


def _parts(message: Message) -> tuple[str | None, str | None, list[Attachment]]:
    """The first text, the first HTML, and the files."""
    text: str | None = None
    html: str | None = None
    files: list[Attachment] = []
    for number, part in enumerate(message.walk()):
        kind = part.get_content_type()
        if number > _MOST_PARTS:
            raise Refused("malformed_message", f"has more than {_MOST_PARTS} parts")
        if kind in {"multipart/signed", "multipart/encrypted"}:
            raise Refused("content_refused", f"{kind} would not survive: messages are written anew")
        if kind.startswith("message/"):  # its text would pass for this one's
            raise Refused("content_refused", "a message inside the message is not taken; attach it as another type")
        if part.is_multipart():
            continue
        is_attached = part.get_content_disposition() == "attachment"
        if kind == "text/plain" and text is None and not is_attached:
            text = _decoded(part)
        elif kind == "text/html" and html is None and not is_attached:
            html = _decoded(part)
        elif part.get("Content-ID") and not is_attached:
            raise Refused("content_refused", "images inside the message are not taken; link them, or attach them")
        else:
            files.append(_file(part, f"attachments.{len(files)}"))
    return text, html, files


def _file(part: Message, field: str) -> Attachment:
    name = check_name(_words(part.get_filename() or "attachment"), field=field)
    payload = part.get_payload(decode=True)
    content = payload if isinstance(payload, bytes) else b""
    return Attachment(name, check_type(part.get_content_type(), field=field), content)


def _decoded(part: Message) -> str:
    data = part.get_payload(decode=True)
    charset = part.get_content_charset("utf-8")
    wrong = Refused("malformed_message", f"a part is not {charset[:40]!r} as it says")
    try:
        name = codecs.lookup(charset).name
        text = "" if name in _CODECS_THAT_ARE_NONE else (data if isinstance(data, bytes) else b"").decode(charset)
        text.encode()  # no half characters, which no database takes
    except (LookupError, ValueError):
        raise wrong from None
    if name in _CODECS_THAT_ARE_NONE:
        raise wrong
    return text.replace("\r\n", "\n")


def _address(value: str, name: str) -> str:
    """The one address of a header."""
    pairs = [address for _, address in email.utils.getaddresses([value]) if address]
    if len(pairs) != 1:
        raise Refused("header_malformed", f"the header {name} must have one address", field=name)
    return pairs[0]


def _line(value: str, name: str) -> str:
    """A header's text, unfolded and decoded; a line break that was hidden in it is refused."""
    text = _words(re.sub(r"\r\n(?=[ \t])", "", value))
    if _CONTROL.search(text):
        raise Refused("header_newline", f"the header {name} has a control character in it", field=name)
    return text


def _words(value: str) -> str:
    try:
        text = str(email.header.make_header(email.header.decode_header(value)))
        text.encode()  # no half characters, which no database takes
    except (LookupError, ValueError, email.errors.HeaderParseError):
        return value
    return text
