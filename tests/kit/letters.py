"""Contents, senders and recipients of email for tests, and an independent reading of what was made.

API
    content(...), identity(...), item(...)     with sensible values for everything that a test does not name
    composer(content, identity, renderer)      of the email channel, compiled first when the content can be
    read(outgoing) -> EmailMessage             what the standard library's parser finds in the bytes
    assert_is_clean(body)                      no bare CR or LF, no long line, nothing above 127
"""

from __future__ import annotations

import email
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from email import policy
from email.message import EmailMessage
from typing import Any
from uuid import UUID

from outrider.contracts.channel import Attachment, Composer, Content, Dkim, Identity, Item, Renderer, Unrenderable
from outrider.contracts.provider import Outgoing
from outrider.plugins.channels.email import CHANNEL

DATED_AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LINK = "https://mail.tenant.example/u/tok_en-1?a=b&c=d"


def content(
    subject: str = "Hello {{ name }}",
    html: str | None = "<html><body><p>Hello {{ name }}</p></body></html>",
    text: str | None = "Hello {{ name }}",
    *,
    preheader: str = "",
    attachments: tuple[Attachment, ...] = (),
    is_template: bool = True,
) -> Content:
    """A content with a version key of its own."""
    key = json.dumps([subject, html, text, preheader, is_template])
    return Content(key, subject, html, text, preheader, None, attachments, is_template)


def identity(
    *,
    from_address: str = "news@tenant.example",
    from_name: str = "Tenant News",
    reply_to: str = "",
    return_path: str = "",
    postal_address: str = "",
    dkim: tuple[Dkim, ...] = (),
    headers: Mapping[str, str] | None = None,
) -> Identity:
    """A sender."""
    return Identity(UUID(int=7), from_address, from_name, reply_to, return_path, postal_address, dkim, headers or {})


def item(
    variables: Mapping[str, Any] | str | None = None,
    *,
    number: int = 1,
    address: str = "ada@example.org",
    unsubscribe_url: str = "",
) -> Item:
    """A recipient."""
    text = variables if isinstance(variables, str) or variables is None else json.dumps(variables)
    return Item(UUID(int=0x0199 << 112 | 0x7 << 76 | 0x2 << 62 | number), address, text, DATED_AT, unsubscribe_url)


async def composer(of: Content, sender: Identity, renderer: Renderer, *, is_compiled: bool = True) -> Composer:
    """A composer; the compiled form passes through JSON as it does in the database."""
    compiled = await CHANNEL.compile(of, renderer)
    stored = json.loads(json.dumps(compiled)) if compiled is not None and is_compiled else None
    return CHANNEL.composer(replace(of, compiled=stored), sender, renderer)


def sent(answer: Outgoing | Unrenderable) -> Outgoing:
    """The message, or the test fails with the reason."""
    assert isinstance(answer, Outgoing), answer
    return answer


def refused(answer: Outgoing | Unrenderable) -> str:
    """The reason, or the test fails."""
    assert isinstance(answer, Unrenderable), answer
    return answer.detail


def read(outgoing: Outgoing | Unrenderable) -> EmailMessage:
    """What an independent parser finds."""
    body = sent(outgoing).body
    assert_is_clean(body)
    message = email.message_from_bytes(body, policy=policy.default)
    assert isinstance(message, EmailMessage)
    assert not [part.defects for part in message.walk() if part.defects]
    return message


def part(message: EmailMessage, kind: str) -> str:
    """The decoded text of the one part of a kind."""
    found = [each for each in message.walk() if each.get_content_type() == kind]
    assert len(found) == 1
    text: str = found[0].get_payload(decode=True).decode()  # type: ignore[union-attr]  # a leaf's payload is bytes
    return text


def assert_is_clean(body: bytes) -> None:
    """What every server takes, 8BITMIME or not."""
    assert body.endswith(b"\r\n")
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n", body)
    assert max(map(len, body.split(b"\r\n"))) <= 998
    assert body.isascii()
    assert b"\0" not in body
