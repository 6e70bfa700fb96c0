"""Signed callbacks of the Twilio-shaped sandbox: statuses of messages, and what phones write.

Owns the signing of our side of the wire, written from Twilio's description and not from our verifier.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from typing import Any

from outrider.interfaces.sandbox.calls import Calls


def signature(token: str, url: str, form: Mapping[str, str]) -> str:
    """X-Twilio-Signature: HMAC-SHA1 over the address, then every name and value in the order of the names."""
    text = url + "".join(f"{name}{form[name]}" for name in sorted(form))
    return base64.b64encode(hmac.new(token.encode(), text.encode(), hashlib.sha1).digest()).decode()


class Caller(Calls):
    """Posts callbacks until they are answered."""

    def __init__(self, token: str, *, tries: int) -> None:
        super().__init__(tries=tries)
        self._token = token

    async def post(self, url: str, form: Mapping[str, str], *, tries: int | None = None) -> tuple[int, str]:
        """Send one; gives the last status (0: no answer) and its body."""
        headers = {"X-Twilio-Signature": signature(self._token, url, form), "User-Agent": "TwilioProxy/1.1"}
        return await self.call(url, dict(form), headers, tries=tries)


def status_form(message: Mapping[str, Any], account_sid: str, status: str, error_code: int | None) -> dict[str, str]:
    """What a status callback says."""
    form = {
        "AccountSid": account_sid,
        "ApiVersion": "2010-04-01",
        "From": message["from"],
        "MessageSid": message["sid"],
        "MessageStatus": status,
        "SmsSid": message["sid"],
        "SmsStatus": status,
        "To": message["to"],
    }
    return form if error_code is None else {**form, "ErrorCode": str(error_code)}
