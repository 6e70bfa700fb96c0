"""Sealing of secrets at rest: AES-256-GCM under the installation's key, bound to tenant and purpose.

Owns the key material and its id; never logs, prints or returns a key.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from outrider.base.errors import Misconfigured

_KEY_BYTES = 32
_NONCE_BYTES = 12
_SHORTEST = 43


def new_key() -> str:
    """A fresh secret key as text: 32 random bytes, URL-safe base64."""
    return base64.urlsafe_b64encode(secrets.token_bytes(_KEY_BYTES)).decode().rstrip("=")


class Keyring:
    """The installation's secret key: seals, opens and derives keys for signing.

    Takes:   the key as text of `new_key` (43 characters of URL-safe base64).
    Raises:  Misconfigured(secret_key_invalid) when it is not 32 bytes.
    """

    def __init__(self, text: str) -> None:
        stripped = text.strip().rstrip("=")
        try:
            key = base64.urlsafe_b64decode(stripped + "=" * (-len(stripped) % 4)) if len(stripped) >= _SHORTEST else b""
        except (binascii.Error, ValueError):
            key = b""
        if len(key) != _KEY_BYTES:
            raise Misconfigured(
                "secret_key_invalid",
                "the secret key is not 32 bytes of URL-safe base64; make one with `outrider settings new-key`",
            )
        self._key = key
        self._sealer = AESGCM(self.derive("seal"))
        self.key_id = hashlib.sha256(b"outrider key id" + key).hexdigest()[:8]

    def __repr__(self) -> str:
        """Names the key, shows nothing of it."""
        return f"Keyring(key_id={self.key_id!r})"

    def derive(self, purpose: str) -> bytes:
        """A 32-byte key for one purpose; keys of two purposes tell nothing of each other."""
        return hmac.digest(self._key, b"outrider/" + purpose.encode(), "sha256")

    def seal(self, plain: str, *, tenant_id: UUID, purpose: str) -> str:
        """Encrypt text; only the same tenant and purpose can open it."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = self._sealer.encrypt(nonce, plain.encode(), self._bound(tenant_id, purpose))
        return f"v1:{self.key_id}:{base64.urlsafe_b64encode(nonce + sealed).decode()}"

    def unseal(self, sealed: str, *, tenant_id: UUID, purpose: str) -> str:
        """Decrypt what `seal` gave.

        Raises:  Misconfigured(secret_key_wrong) naming both key ids when another key sealed it, or when the text was
                 changed or moved between tenants. Never gives garbage.
        """
        version, _, rest = sealed.partition(":")
        key_id, _, body = rest.partition(":")
        if version != "v1" or key_id != self.key_id:
            raise Misconfigured(
                "secret_key_wrong",
                f"sealed with key {key_id or 'unknown'}, but the secret key given is {self.key_id}; "
                f"set OUTRIDER_SECRET_KEY (or its file) to key {key_id or 'unknown'}",
            )
        try:
            raw = base64.urlsafe_b64decode(body)
            return self._sealer.decrypt(
                raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], self._bound(tenant_id, purpose)
            ).decode()
        except (InvalidTag, binascii.Error, ValueError) as error:
            raise Misconfigured(
                "sealed_text_damaged",
                f"a secret of tenant {tenant_id} ({purpose}) was changed or moved; enter it again",
            ) from error

    @staticmethod
    def _bound(tenant_id: UUID, purpose: str) -> bytes:
        return tenant_id.bytes + purpose.encode()
