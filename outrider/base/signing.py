"""Signed tokens in links: opaque, without personal data, bound to one purpose."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable
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


class ReturnSigner:
    """Makes and reads the local parts of addresses to which one message comes back (VERP).

    60 characters of lower-case base32 (RFC 4648 6, without padding): tenant, message, truncated HMAC-SHA256 (5 bytes).
    Mail servers may change the case of a local part and refuse more than 64 characters (RFC 5321 4.5.3.1.1), so there
    is no room for more: whoever guesses must know a message's id, and is turned away after a few wrong addresses.

    Takes:   a key derived for it (`Keyring.derive("returns")`).
    """

    LENGTH = 60
    _MAC_BYTES = 5

    def __init__(self, key: bytes) -> None:
        self._key = key

    def sign(self, tenant_id: UUID, message_id: UUID) -> str:
        """The local part of a message's own return address."""
        body = tenant_id.bytes + message_id.bytes
        mac = hmac.digest(self._key, body, "sha256")[: self._MAC_BYTES]
        return base64.b32encode(body + mac).decode().rstrip("=").lower()

    def read(self, local_part: str) -> tuple[UUID, UUID] | None:
        """(tenant id, message id) of a local part that we made, in whatever case; else None."""
        if len(local_part) != self.LENGTH or not local_part.isascii():
            return None
        try:
            raw = base64.b32decode(local_part.upper() + "=" * (-self.LENGTH % 8))
        except binascii.Error:
            return None
        body, mac = raw[: -self._MAC_BYTES], raw[-self._MAC_BYTES :]
        if not hmac.compare_digest(hmac.digest(self._key, body, "sha256")[: self._MAC_BYTES], mac):
            return None
        return UUID(bytes=body[:16]), UUID(bytes=body[16:])


class TrackingSigner:
    """Makes and reads the tokens behind tracked links, opening pixels and web versions of a message or campaign.

    76 characters of URL-safe base64: kind (1 byte), tenant, message, link (8 bytes), keyed BLAKE2b (16 bytes). The
    kind is signed with the rest, so that a token of one kind never passes for another. BLAKE2b and not HMAC because a
    newsletter has many links per recipient: a third of the time (RFC 7693 2.9 makes it a MAC by itself).

    Takes:   a key derived for it (`Keyring.derive("tracking")`).
    """

    OPEN, CLICK, VIEW, PUBLIC = 1, 2, 3, 4
    LENGTH = 76

    def __init__(self, key: bytes) -> None:
        self._key = key

    def signed(self, kind: int, tenant_id: UUID, message_id: UUID, links: Iterable[int] = (0,)) -> list[str]:
        """One token per link of a message; 0 where the kind has no links."""
        head = bytes((kind,)) + tenant_id.bytes + message_id.bytes
        shared = base64.urlsafe_b64encode(head).decode()
        tokens = []
        for link in links:
            body = link.to_bytes(8, "big", signed=True)
            mac = hashlib.blake2b(head + body, key=self._key, digest_size=_MAC_BYTES).digest()
            tokens.append(shared + base64.urlsafe_b64encode(body + mac).decode())
        return tokens

    def read(self, kind: int, token: str) -> tuple[UUID, UUID, int] | None:
        """(tenant id, message id, link) of a token of this kind that we made, else None."""
        if len(token) != self.LENGTH or not token.isascii():
            return None
        try:
            raw = base64.b64decode(token, altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return None
        body, mac = raw[:-_MAC_BYTES], raw[-_MAC_BYTES:]
        if not hmac.compare_digest(hashlib.blake2b(body, key=self._key, digest_size=_MAC_BYTES).digest(), mac):
            return None
        if body[0] != kind:
            return None
        return UUID(bytes=body[1:17]), UUID(bytes=body[17:33]), int.from_bytes(body[33:], "big", signed=True)
