"""Addresses that people write: bases of links, hosts, name servers; and whether one is this machine alone.

Owns the reading of such addresses; never resolves or dials one.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from urllib.parse import urlsplit

from outrider.base.errors import Refused

LONGEST_BASE = 200
_HOST = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.?"
)
_BASE = re.compile(r"https?://[A-Za-z0-9.:\[\]/_~-]+", re.IGNORECASE)
_HERE = frozenset({"localhost", "::1", "::", "0.0.0.0"})  # noqa: S104 - compared, not bound


def is_local_host(host: str) -> bool:
    """Whether a host of an address is this machine for whoever opens it."""
    plain = host.lower().strip("[]").rstrip(".")
    return plain in _HERE or plain.endswith(".localhost") or plain.startswith("127.")


def base_url(text: str, *, field: str) -> str:
    """The one stored form of a base address, without its last slash; empty stays empty.

    Raises:  Refused(invalid_url) naming `field` for anything but http(s)://host[:port][/path].
    """
    plain = text.strip()
    if not plain:
        return ""
    refusal = Refused(
        "invalid_url", "must be http(s)://host[:port][/path] without user, query or fragment", field=field
    )
    try:
        parts = urlsplit(plain)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise refusal from None
    is_host = bool(_HOST.fullmatch(host)) or (":" in host and parts.netloc.startswith("["))
    if len(plain) > LONGEST_BASE or not _BASE.fullmatch(plain) or not is_host:
        raise refusal
    return plain.rstrip("/")


def name_server(text: str) -> tuple[str, int]:
    """Address and port of a name server: `192.0.2.1`, `192.0.2.1:5353`, `2001:db8::1`, `[2001:db8::1]:5353`.

    Raises:  ValueError.
    """
    if text.startswith("[") or text.count(":") == 1:
        host, _, port = text.rpartition(":")
        return str(ip_address(host.strip("[]"))), int(port)
    return str(ip_address(text)), 53
