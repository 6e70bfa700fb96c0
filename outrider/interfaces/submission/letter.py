"""What a submitted message says: subject, text, HTML and files out of its bytes, and what its headers mean here.

Owns the three lists of headers: those that are used, those that are left out because the sender or the worker writes
them anew, and those that are refused because leaving them out would change what the author meant. Pure.
"""

from __future__ import annotations

import email
import email.errors
import email.header
import email.policy
import email.utils
import re
from dataclasses import dataclass
from email.message import Message
from typing import Final

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
    if b"\r" in body.replace(b"\r\n", b"") or b"\n" in body.replace(b"\r\n", b""):
        raise Refused("bare_line_end", "lines must end with CRLF")
    try:
        message = email.message_from_bytes(body, policy=email.policy.compat32)  # the tolerant one: it never raises …
        headers = _headers(message, head)
        text, html, files = _parts(message)
    except RecursionError:  # … but for this
        raise Refused("malformed_message", "is nested too deeply") from None
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
    try:
        text = (data if isinstance(data, bytes) else b"").decode(charset)
    except (LookupError, ValueError):
        raise Refused("malformed_message", f"a part is not {charset[:40]!r} as it says") from None
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
        return str(email.header.make_header(email.header.decode_header(value)))
    except (LookupError, ValueError, email.errors.HeaderParseError):
        return value
