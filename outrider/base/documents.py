"""Signed documents: JSON that anybody can check without a secret, whoever holds it and however long afterwards.

Owns the canonical form, the chain of hashes and the signature (Ed25519, RFC 8032). The public key goes with the
document: whose key it is must be known from elsewhere.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey


def canonical(value: Any) -> bytes:
    """The one spelling of a JSON value: names in order, no spaces, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def chained(previous: str, value: Any) -> str:
    """The hash of a value that follows another one, in hexadecimal; `previous` is empty for the first."""
    return hashlib.sha256(canonical({"previous": previous, "value": value})).hexdigest()


class DocumentSigner:
    """Signs documents of one purpose.

    Takes:   a key of 32 bytes derived for that purpose (`Keyring.derive`).
    """

    def __init__(self, key: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(key)

    @property
    def public_key(self) -> str:
        """What a signature is checked with, as base64."""
        return base64.b64encode(self._key.public_key().public_bytes_raw()).decode()

    def sign(self, value: Any) -> str:
        """The signature of a JSON value, as base64."""
        return base64.b64encode(self._key.sign(canonical(value))).decode()


def is_signed(value: Any, signature: str, public_key: str) -> bool:
    """Whether the owner of a public key signed exactly this; False as well for what is no key or no signature."""
    try:
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key, validate=True))
        key.verify(base64.b64decode(signature, validate=True), canonical(value))
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True
