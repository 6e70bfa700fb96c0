"""An independent DKIM verifier for tests (RFC 6376, RFC 8463): shares no code with the product's signer.

Owns relaxed canonicalisation, RSA-SHA256 and Ed25519-SHA256. It is itself held to the signed message of RFC 8463,
appendix A, in tests/unit/test_kit_dkim.py.

API
    verify(message, records) -> list[str]    the domains and selectors ("selector.domain") whose signatures hold
    NotValid                                 raised with the reason for a signature that does not hold
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

Header = tuple[bytes, bytes]


class NotValid(AssertionError):
    """A signature that does not hold, and why."""


def verify(message: bytes, records: Mapping[str, str]) -> list[str]:
    """Check every DKIM signature of a message.

    Takes:   message with CRLF line ends; records: `selector._domainkey.domain` -> its TXT record.
    Gives:   "selector.domain" per signature, from the top; empty when the message has none.
    Raises:  NotValid for the first signature that does not hold.
    """
    head, separator, body = message.partition(b"\r\n\r\n")
    if not separator or re.search(rb"(?<!\r)\n|\r(?!\n)", message):
        raise NotValid("the message has bare line ends or no body")
    headers = [_split(line) for line in re.split(rb"\r\n(?![ \t])", head)]
    return [_check(header, headers, body, records) for header in headers if header[0].lower() == b"dkim-signature"]


def _split(line: bytes) -> Header:
    name, colon, value = line.partition(b":")
    if not colon:
        raise NotValid(f"not a header: {line!r}")
    return name.strip(), value


def _check(signature: Header, headers: list[Header], body: bytes, records: Mapping[str, str]) -> str:
    tags = _tags(signature[1].decode("ascii"))
    if tags.get("v") != "1" or tags.get("c") != "relaxed/relaxed" or "l" in tags:
        raise NotValid(f"not a kind of signature that is expected here: {tags}")
    if hashlib.sha256(_relaxed_body(body)).digest() != base64.b64decode(tags["bh"]):
        raise NotValid("the body hash differs")
    names = [name.strip().lower().encode() for name in tags["h"].split(":")]
    if b"from" not in names:
        raise NotValid("From is not signed")
    unsigned = re.sub(rb"(^|;)(\s*b\s*=)[^;]*", rb"\1\2", signature[1])
    signed = b"".join(_chosen(names, headers)) + _relaxed(signature[0], unsigned)
    key = f"{tags['s']}._domainkey.{tags['d']}"
    if key not in records:
        raise NotValid(f"no record for {key}")
    _check_key(tags["a"], _tags(records[key]), base64.b64decode(tags["b"]), signed)
    return f"{tags['s']}.{tags['d']}"


def _tags(text: str) -> dict[str, str]:
    tags = {}
    for part in text.split(";"):
        name, equals, value = part.partition("=")
        if equals:
            name = name.strip()
            if name in tags:
                raise NotValid(f"the tag {name} comes twice")
            tags[name] = re.sub(r"\s+", "", value)
    return tags


def _chosen(names: list[bytes], headers: list[Header]) -> list[bytes]:
    """The signed headers: each mention of a name takes the next instance from the bottom (RFC 6376, 5.4.2)."""
    left: dict[bytes, list[Header]] = {}
    for header in headers:
        left.setdefault(header[0].lower(), []).append(header)
    return [_relaxed(*left[name].pop()) + b"\r\n" for name in names if left.get(name)]


def _relaxed(name: bytes, value: bytes) -> bytes:
    unfolded = re.sub(rb"\r\n(?=[ \t])", b"", value)
    return name.lower() + b":" + re.sub(rb"[ \t]+", b" ", unfolded).strip(b" ")


def _relaxed_body(body: bytes) -> bytes:
    lines = [re.sub(rb"[ \t]+", b" ", line).rstrip(b" ") for line in body.split(b"\r\n")]
    while lines and not lines[-1]:
        lines.pop()
    return b"".join(line + b"\r\n" for line in lines)


def _check_key(algorithm: str, record: dict[str, str], signature: bytes, signed: bytes) -> None:
    public = base64.b64decode(record["p"])
    try:
        if algorithm == "ed25519-sha256" and record.get("k") == "ed25519":
            Ed25519PublicKey.from_public_bytes(public).verify(signature, hashlib.sha256(signed).digest())
            return
        if algorithm == "rsa-sha256" and record.get("k", "rsa") == "rsa":
            key = load_der_public_key(public)
            assert isinstance(key, RSAPublicKey)
            key.verify(signature, signed, PKCS1v15(), SHA256())
            return
    except InvalidSignature:
        raise NotValid(f"the {algorithm} signature does not fit") from None
    raise NotValid(f"algorithm {algorithm} and record do not go together")
