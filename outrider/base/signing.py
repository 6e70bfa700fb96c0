"""Signed tokens in links: opaque, without personal data, bound to one purpose."""

from __future__ import annotations

import base64
import binascii
import hmac
from uuid import UUID

_MAC_BYTES = 16
_TOKEN_CHARACTERS = 64


class LinkSigner:
    """Makes and reads tokens that name a tenant and a message for one purpose (`unsubscribe`, `click` …).

    Takes:   a key derived for that purpose (`Keyring.derive`).
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def sign(self, tenant_id: UUID, message_id: UUID) -> str:
        """48 bytes (tenant, message, truncated HMAC-SHA256) as 64 characters of URL-safe base64."""
        body = tenant_id.bytes + message_id.bytes
        return base64.urlsafe_b64encode(body + hmac.digest(self._key, body, "sha256")[:_MAC_BYTES]).decode()

    def read(self, token: str) -> tuple[UUID, UUID] | None:
        """(tenant id, message id) of a token that we made, else None."""
        if len(token) != _TOKEN_CHARACTERS or not token.isascii():
            return None
        try:
            raw = base64.b64decode(token, altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return None
        body, mac = raw[:-_MAC_BYTES], raw[-_MAC_BYTES:]
        if not hmac.compare_digest(hmac.digest(self._key, body, "sha256")[:_MAC_BYTES], mac):
            return None
        return UUID(bytes=body[:16]), UUID(bytes=body[16:])
