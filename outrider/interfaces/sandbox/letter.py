"""What can be read in the bytes of a message: subject, text, HTML, attachments. Tolerant: it never raises.

Owns decoding for the inbox; decides nothing about how it is shown and changes nothing.
"""

from __future__ import annotations

import email
import email.errors
import email.header
import email.policy
from dataclasses import dataclass
from email.message import Message


@dataclass(frozen=True, slots=True)
class Attachment:
    """A part that is neither the text nor the HTML; `name` may be empty."""

    name: str
    kind: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Letter:
    """A message taken apart: the first HTML part and the first text part that are no attachments, and the rest."""

    headers: list[tuple[str, str]]
    html: str | None
    text: str | None
    attachments: list[Attachment]


def read(body: bytes) -> Letter:
    """Take a message apart."""
    message = _parse(body)
    html: str | None = None
    text: str | None = None
    attachments: list[Attachment] = []
    for part in message.walk():
        if part.is_multipart():
            continue
        kind = part.get_content_type()
        is_attached = part.get_content_disposition() == "attachment"
        if kind == "text/html" and html is None and not is_attached:
            html = _decoded_part(part)
        elif kind == "text/plain" and text is None and not is_attached:
            text = _decoded_part(part)
        else:
            attachments.append(Attachment(_name(part), kind, len(_payload(part))))
    return Letter([(name, decoded(_text(value))) for name, value in message.raw_items()], html, text, attachments)


def subject_of(head: bytes) -> str:
    """The decoded subject of a message whose beginning is given."""
    fields = _parse(head.partition(b"\r\n\r\n")[0] + b"\r\n\r\n").raw_items()
    return next((decoded(_text(value)) for name, value in fields if name.lower() == "subject"), "")


def decoded(value: str) -> str:
    """Encoded words made readable; what cannot be decoded stays as it is."""
    try:
        return str(email.header.make_header(email.header.decode_header(value)))
    except (LookupError, ValueError, email.errors.HeaderParseError):
        return value


def _text(value: object) -> str:
    """A header as it came; bytes beyond ASCII are UTF-8 (RFC 6532)."""
    return str(value).encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _parse(body: bytes) -> Message:
    return email.message_from_bytes(body, policy=email.policy.compat32)  # the tolerant one: it never raises


def _payload(part: Message) -> bytes:
    payload = part.get_payload(decode=True)
    return payload if isinstance(payload, bytes) else b""


def _decoded_part(part: Message) -> str:
    data = _payload(part)
    try:
        return data.decode(part.get_content_charset("utf-8"), "replace")
    except (LookupError, ValueError):
        return data.decode("utf-8", "replace")


def _name(part: Message) -> str:
    try:
        return decoded(part.get_filename() or "")
    except (LookupError, ValueError, TypeError):
        return ""
