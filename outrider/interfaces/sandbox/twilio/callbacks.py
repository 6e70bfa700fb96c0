"""Signed callbacks of the Twilio-shaped sandbox: statuses of messages, and what phones write.

Owns the signing of our side of the wire, written from Twilio's description and not from our verifier.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from collections.abc import Mapping
from typing import Any

import aiohttp

_LONGEST_ANSWER_S = 15.0
"""Twilio gives up after fifteen seconds."""
_OK = range(200, 300)


def signature(token: str, url: str, form: Mapping[str, str]) -> str:
    """X-Twilio-Signature: HMAC-SHA1 over the address, then every name and value in the order of the names."""
    text = url + "".join(f"{name}{form[name]}" for name in sorted(form))
    return base64.b64encode(hmac.new(token.encode(), text.encode(), hashlib.sha1).digest()).decode()


class Caller:
    """Posts callbacks until they are answered."""

    def __init__(self, token: str, *, tries: int) -> None:
        self._token = token
        self._tries = tries
        self._session: aiohttp.ClientSession | None = None
        self.sent_count = 0
        self.failed_count = 0

    async def post(self, url: str, form: Mapping[str, str], *, tries: int | None = None) -> tuple[int, str]:
        """Send one; gives the last status (0: no answer) and its body."""
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_LONGEST_ANSWER_S))
        headers = {"X-Twilio-Signature": signature(self._token, url, form), "User-Agent": "TwilioProxy/1.1"}
        status, text = 0, ""
        for number in range(tries or self._tries):
            if number:
                await asyncio.sleep(min(2.0, 0.1 * 2**number))
            try:
                async with self._session.post(url, data=dict(form), headers=headers) as answer:
                    status, text = answer.status, await answer.text()
            except (aiohttp.ClientError, TimeoutError, OSError):
                status, text = 0, ""
            if status in _OK:
                self.sent_count += 1
                return status, text
        self.failed_count += 1
        return status, text

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()


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
