"""What is posted: a message of ours in the words of Resend's API. Pure, and the same for the same message, always.

Left to Resend: Date, Message-ID, Return-Path and DKIM.
"""

from __future__ import annotations

from typing import Any

from outrider.contracts.provider import Outgoing
from outrider.data.mail_parts import parts_of
from outrider.plugins.providers.resend.settings import MESSAGE_TAG, Account

Payload = dict[str, Any]


def payload_of(message: Outgoing, account: Account) -> Payload:
    """The body of a request for one message, or an element of one for many.

    Raises:  ValueError when its bytes are not of the form that the channel makes.
    """
    parts = parts_of(message.body)
    tags = [(MESSAGE_TAG, str(message.id)), *account.tags]
    payload: Payload = {
        "from": parts.sender or message.envelope_from,
        "to": [message.address],
        "subject": parts.subject,
    }
    if parts.html is not None:
        payload["html"] = parts.html
    if parts.text is not None:
        payload["text"] = parts.text
    if parts.reply_to:
        payload["reply_to"] = parts.reply_to
    if parts.headers:
        payload["headers"] = parts.headers
    if parts.files:
        payload["attachments"] = [
            {"filename": each.name, "content": each.content_base64, "content_type": each.content_type}
            for each in parts.files
        ]
    payload["tags"] = [{"name": name, "value": value} for name, value in tags]
    return payload


def may_share(payload: Payload) -> bool:
    """Whether a message can go in a request with others: the batch takes no files."""
    return "attachments" not in payload
