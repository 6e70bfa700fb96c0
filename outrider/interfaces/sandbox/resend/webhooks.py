"""Signed events of the Resend-shaped sandbox.

Owns the signing of our side of the wire, written from the description of the scheme and not from our verifier.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from outrider.interfaces.sandbox.calls import Calls


def signature(secret: str, named: str, at: int, body: bytes) -> str:
    """`v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`, keyed with the secret's bytes."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    made = hmac.new(key, b".".join((named.encode(), str(at).encode(), body)), hashlib.sha256)
    return f"v1,{base64.b64encode(made.digest()).decode()}"


def headers_of(secret: str, body: bytes, *, named: str = "", at: int | None = None) -> dict[str, str]:
    """What goes with an event."""
    named, at = named or f"msg_{uuid4().hex}", int(time.time()) if at is None else at
    return {
        "content-type": "application/json", "user-agent": "Svix-Webhooks/1.0", "svix-id": named,
        "svix-timestamp": str(at), "svix-signature": signature(secret, named, at, body),
    }  # fmt: skip


def event_of(word: str, email_id: str, email: Mapping[str, Any], bounce: Mapping[str, str] | None = None) -> bytes:
    """The body of an event about an email."""
    now = datetime.now(UTC).isoformat()
    data: dict[str, Any] = {
        "email_id": email_id, "created_at": now, "from": email.get("from"), "to": email.get("to"),
        "subject": email.get("subject"), "tags": {each["name"]: each["value"] for each in email.get("tags") or ()},
    }  # fmt: skip
    if word == "email.bounced":
        data["bounce"] = {"type": "Permanent", "subType": "General", "message": "no such user", **(bounce or {})}
    if word == "email.suppressed":
        data["suppressed"] = {"reason": "previous_bounce", "type": "OnAccountSuppressionList", "message": "as before"}
    if word == "email.failed":
        data["failed"] = {"reason": "reached_daily_quota"}
    return json.dumps({"type": word, "created_at": now, "data": data}).encode()


class Webhook(Calls):
    """Posts events to one address until they are answered."""

    def __init__(self, url: str, secret: str, *, tries: int) -> None:
        super().__init__(tries=tries)
        self.url = url
        self.secret = secret

    async def post(self, body: bytes, *, named: str = "") -> int:
        """Send one; gives the last status."""
        status, _ = await self.call(self.url, body, headers_of(self.secret, body, named=named))
        return status
