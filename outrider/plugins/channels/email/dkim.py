"""DKIM signatures (RFC 6376, RFC 8463): RSA-SHA256 and Ed25519-SHA256, relaxed/relaxed.

Owns canonicalisation, the choice of signed headers, and the check of private keys. Signatures are a pure function of
message, key and time. Never reads DNS and never shows a key.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from outrider.base.errors import Refused
from outrider.contracts.channel import Dkim

LEAST_RSA_BITS = 1024
ADVISED_RSA_BITS = 2048

_SIGNED_TWICE = ("from", "to", "cc", "subject", "date", "reply-to", "message-id")
"""Signed once more than they occur, so that nobody can add one (RFC 6376 8.15)."""
_SIGNED = (
    "mime-version", "content-type", "content-transfer-encoding", "list-unsubscribe", "list-unsubscribe-post",
    "list-id", "feedback-id",
)  # fmt: skip

_SPACES = re.compile(rb"[ \t]+")
_FOLDS = re.compile(rb"\r\n(?=[ \t])")
_SELECTOR = re.compile(
    r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?)*"
)
_DOMAIN = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]", re.IGNORECASE)
_BASE64_WIDTH = 72

Key = RSAPrivateKey | Ed25519PrivateKey


def load(key: Dkim, *, field: str = "dkim", is_checked: bool = False) -> Key:
    """Read a private key.

    Takes:   is_checked: it was read before, when the sender was saved; spares 0.1 s of arithmetic for an RSA key.
    Raises:  Refused(invalid_dkim_key) for what is no key, an encrypted one, another algorithm, or RSA under 1024 bits.
    """
    try:
        private = load_pem_private_key(
            key.private_key_pem.encode(), password=None, unsafe_skip_rsa_key_validation=is_checked
        )
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise Refused(
            "invalid_dkim_key", "is not an unencrypted private key in PEM", field=f"{field}.private_key_pem"
        ) from None
    if isinstance(private, RSAPrivateKey):
        if private.key_size < LEAST_RSA_BITS:
            detail = (
                f"RSA with {private.key_size} bits is refused by receivers; at least {ADVISED_RSA_BITS} are advised"
            )
            raise Refused("invalid_dkim_key", detail, field=f"{field}.private_key_pem")
        return private
    if isinstance(private, Ed25519PrivateKey):
        return private
    raise Refused("invalid_dkim_key", "must be RSA or Ed25519", field=f"{field}.private_key_pem")


def check(key: Dkim, *, field: str = "dkim") -> list[str]:
    """Check one signing key of a sender.

    Gives:   warnings; empty when there is nothing to say.
    Raises:  Refused naming domain, selector or private_key_pem.
    """
    if not _DOMAIN.fullmatch(key.domain):
        raise Refused("invalid_dkim_domain", "must be a domain name in ASCII", field=f"{field}.domain")
    if not _SELECTOR.fullmatch(key.selector):
        raise Refused(
            "invalid_dkim_selector", "must be letters, digits, hyphens and periods", field=f"{field}.selector"
        )
    private = load(key, field=field)
    if isinstance(private, RSAPrivateKey) and private.key_size < ADVISED_RSA_BITS:
        return [f"{field}: RSA with {private.key_size} bits is weak; use {ADVISED_RSA_BITS} bits or more (RFC 8301)"]
    return []


class Signer:
    """Signs messages with every key of an identity."""

    def __init__(self, keys: Sequence[Dkim]) -> None:
        self._keys = [(key.domain.lower(), key.selector, load(key, is_checked=True)) for key in keys]
        self.is_slow = any(isinstance(private, RSAPrivateKey) for *_, private in self._keys)

    def sign(self, message: bytes, at: datetime) -> bytes:
        """The DKIM-Signature fields to put before a message, each with its CRLF.

        Takes:   message with CRLF line ends; at: what `t=` says.
        """
        head, _, body = message.partition(b"\r\n\r\n")
        body_hash = binascii.b2a_base64(sha256(relaxed_body(body)).digest(), newline=False).decode()
        names, canonical = _signed_headers(head)
        return b"".join(
            [
                self._field(domain, selector, private, f"t={int(at.timestamp())}; bh={body_hash}", names, canonical)
                for domain, selector, private in self._keys
            ]
        )

    def _field(
        self, domain: str, selector: str, private: Key, facts: str, names: Sequence[str], canonical: bytes
    ) -> bytes:
        algorithm = "rsa-sha256" if isinstance(private, RSAPrivateKey) else "ed25519-sha256"
        value = f"v=1; a={algorithm}; c=relaxed/relaxed; d={domain}; s={selector};"
        value += f"\r\n {facts};\r\n {_folded(names)};\r\n b="
        unsigned = canonical + b"dkim-signature:" + _relaxed_value(value.encode())
        digest = sha256(unsigned).digest()
        if isinstance(private, RSAPrivateKey):
            signature = private.sign(digest, PKCS1v15(), Prehashed(SHA256()))
        else:
            signature = private.sign(digest)  # RFC 8463 3: Ed25519 signs the SHA-256 of the data
        encoded = binascii.b2a_base64(signature, newline=False).decode()
        lines = [encoded[start : start + _BASE64_WIDTH] for start in range(0, len(encoded), _BASE64_WIDTH)]
        joined = "\r\n ".join(lines)
        return f"DKIM-Signature: {value}{joined}\r\n".encode()


def _folded(names: Sequence[str]) -> str:
    """The `h=` tag, folded between names."""
    lines, line = [], "h="
    for number, name in enumerate(names):
        piece = name if number == len(names) - 1 else f"{name}:"
        if len(line) + len(piece) > _BASE64_WIDTH:
            lines.append(line)
            line = ""
        line += piece
    return "\r\n ".join([*lines, line])


def _signed_headers(head: bytes) -> tuple[list[str], bytes]:
    """Names for `h=` and the canonical fields they stand for, bottom-most first for each name [RFC 6376 5.4.2]."""
    fields: dict[str, list[bytes]] = {}
    for line in _FOLDS.sub(b"", head).split(b"\r\n"):
        raw_name, _, value = line.partition(b":")
        fields.setdefault(raw_name.decode("ascii").strip().lower(), []).append(value)
    names: list[str] = []
    canonical: list[bytes] = []
    for name in (*_SIGNED_TWICE, *_SIGNED):
        found = fields.get(name, [])
        names += [name] * (len(found) + (name in _SIGNED_TWICE))
        canonical += [b"%s:%s\r\n" % (name.encode(), _relaxed_value(value)) for value in reversed(found)]
    return names, b"".join(canonical)


def _relaxed_value(value: bytes) -> bytes:
    """A header value by RFC 6376 3.4.2: unfolded, runs of white space one space, none at the ends."""
    return _SPACES.sub(b" ", value.replace(b"\r\n", b"")).strip(b" ")


def relaxed_body(body: bytes) -> bytes:
    """A body by RFC 6376 3.4.4: runs of white space one space, none at line ends, no empty lines at the end."""
    if b"\t" in body:
        body = body.replace(b"\t", b" ")
    while b"  " in body:
        body = body.replace(b"  ", b" ")
    body = body.replace(b" \r\n", b"\r\n").rstrip(b" ")
    end = len(body)
    while body.endswith(b"\r\n", 0, end):
        end -= 2
    return body[:end] + b"\r\n" if end else b""
