"""What is posted: a text of ours as the form that Twilio's API reads. Pure, but for how long it stays valid.

Written for one text after another: what all texts of an account say is written once, and only what must be is escaped.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from outrider.base.clock import boottime_s
from outrider.contracts.provider import Outgoing
from outrider.plugins.providers.twilio.settings import Account

_WAY_S: Final = 1.0
"""So much earlier the validity ends than the message's time: it counts from when the request arrives."""
_UNSAFE: Final = re.compile(rb"[^A-Za-z0-9_.~ -]")
_ESCAPES: Final = {bytes([byte]): b"%%%02X" % byte for byte in range(256)}


class Forms:
    """Makes the forms of one account."""

    def __init__(self, account: Account) -> None:
        service, url = account.messaging_service_sid, account.callback_url
        self._service = b"&MessagingServiceSid=" + escaped(service.encode()) if service else b""
        self._report_to = b"&StatusCallback=" + escaped(f"{url}?m=".encode()) if url else b""
        self._validity_s = account.validity_s

    def form(self, message: Outgoing) -> bytes:
        """The request for a message."""
        valid_s = self._validity_s
        if message.until_s is not None:
            valid_s = min(valid_s, max(1, int(left_s(message))))
        report_to = b"%b%b" % (self._report_to, str(message.id).encode()) if self._report_to else b""
        return b"To=%b&From=%b&Body=%b%b%b&ValidityPeriod=%d" % (
            escaped(message.address.encode()), _escaped_once(message.envelope_from), escaped(message.body),
            self._service, report_to, valid_s,
        )  # fmt: skip


def escaped(text: bytes) -> bytes:
    """UTF-8 as the value of a form's field."""
    return _UNSAFE.sub(_escape, text).replace(b" ", b"+")


def left_s(message: Outgoing) -> float:
    """For how long a message with an end may still be valid at the provider."""
    return (message.until_s or 0.0) - boottime_s() - _WAY_S


@lru_cache(1024)
def _escaped_once(number: str) -> bytes:
    """A sender's number, which many texts have."""
    return escaped(number.encode())


def _escape(found: re.Match[bytes]) -> bytes:
    return _ESCAPES[found[0]]
