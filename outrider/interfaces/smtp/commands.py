"""SMTP commands as values: verb, paths with their parameters, the answers of AUTH. Pure.

Source:  RFC 5321 4.1, RFC 4954, RFC 4616, RFC 1870, RFC 6152
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Final

_PATH: Final = re.compile(
    r"(?P<verb>FROM|TO): ?<(?P<address>[^<>\x00-\x20\x7f]*)>(?P<params>(?: [^ ]+)*)\Z", re.IGNORECASE
)
_PARAM: Final = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9-]*)(?:=(?P<value>[!-<>-~]+))?\Z")
_ROUTE: Final = re.compile(r"^@[^:]+:")
_LONGEST_ADDRESS: Final = 320


@dataclass(frozen=True, slots=True)
class Path:
    """The address of MAIL or RCPT with its parameters, their names in capitals."""

    address: str
    params: dict[str, str]


def split(line: bytes) -> tuple[str, str]:
    """Verb in capitals and the rest; both empty for what is not ASCII: SMTPUTF8 is not offered."""
    try:
        text = line.decode("ascii")
    except UnicodeDecodeError:
        return "", ""
    verb, _, rest = text.partition(" ")
    return verb.upper(), rest.strip(" ")


def path(text: str, verb: str) -> Path | None:
    """What follows MAIL (`FROM:<…>`) or RCPT (`TO:<…>`); None for a syntax that is none."""
    match = _PATH.match(text)
    if match is None or match["verb"].upper() != verb or len(match["address"]) > _LONGEST_ADDRESS:
        return None
    params: dict[str, str] = {}
    for word in match["params"].split():
        found = _PARAM.match(word)
        if found is None or found["name"].upper() in params:
            return None
        params[found["name"].upper()] = found["value"] or ""
    return Path(_ROUTE.sub("", match["address"]), params)


def unbase64(line: bytes | str) -> bytes | None:
    """A response of AUTH; None for what is no base64. `=` is an empty one."""
    if line in {b"=", "="}:
        return b""
    try:
        return base64.b64decode(line, validate=True)
    except (binascii.Error, ValueError):
        return None


def plain(response: bytes) -> str | None:
    """The password of AUTH PLAIN; the names beside it say nothing that the key does not. None when it is malformed."""
    parts = response.split(b"\0")
    return parts[2].decode("utf-8", "replace") if len(parts) == 3 else None  # noqa: PLR2004 - RFC 4616: identity, user, password
