"""The links in a text, looked at as carriers and recipients would: shared shorteners, private hosts, what is not https.

Owns the notes; refuses nothing and dials nobody.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import ip_address
from urllib.parse import urlsplit

from outrider.base.web import is_local_host
from outrider.contracts.channel import Content, LinkNote
from outrider.data.egress import is_public
from outrider.data.gsm import size_of

_LINK = re.compile(r"(?:https?://|\bwww\.)[^\s<>\"'(){}]+", re.IGNORECASE)
_SHORTENERS = frozenset(
    {
        "bit.ly", "bitly.com", "buff.ly", "cutt.ly", "goo.gl", "is.gd", "ow.ly", "rb.gy", "rebrand.ly", "shorturl.at",
        "t.co", "t.ly", "tiny.cc", "tinyurl.com", "v.gd",
    }
)  # fmt: skip
_MANY_PARTS = 3


def reviewed(content: Content, *, is_bulk: bool) -> list[LinkNote]:
    """Notes in the order of the text; see `contracts.channel.Channel.review`."""
    text = content.text or ""
    notes = [note for found in _LINK.finditer(text) for note in _judged(found[0].rstrip(".,;:!?"), _line(text, found))]
    size = size_of(text)
    if size.odd and len(text) > 70:  # noqa: PLR2004 - what one part of UCS-2 holds
        shown = " ".join(f"U+{ord(character):04X}" for character in size.odd)
        detail = f"has characters outside the GSM alphabet ({shown}): a part holds 67 characters instead of 153"
        notes.append(LinkNote("info", "ucs2", "text", 0, "", detail))
    if is_bulk and size.segments > _MANY_PARTS:
        notes.append(LinkNote("info", "many_parts", "text", 0, "", f"is about {size.segments} parts per recipient"))
    return notes


def links(content: Content) -> list[str]:
    """The web addresses that are the same for everybody, each once; one without its scheme is read as https."""
    text = content.text or ""
    urls: dict[str, None] = {}
    for found in _LINK.finditer(text):
        is_whole = not content.is_template or not text.startswith(("{{", "{%"), found.end())
        url = found[0].rstrip(".,;:!?")
        if is_whole:
            urls[url if "://" in url else f"https://{url}"] = None
    return list(urls)


def _line(text: str, found: re.Match[str]) -> int:
    return 1 + text.count("\n", 0, found.start())


def _judged(url: str, line: int) -> Iterator[LinkNote]:
    try:
        host = (urlsplit(url if "://" in url else f"http://{url}").hostname or "").removeprefix("www.")
    except ValueError:
        host = ""
    if not host or "." not in host.strip("."):
        yield LinkNote("error", "invalid_link", "text", line, url[:300], "is no web address")
        return
    if host in _SHORTENERS:
        detail = "carriers filter messages with shared shorteners (Twilio 30007): use a domain of your own"
        yield LinkNote("warning", "shared_shortener", "text", line, url[:300], detail)
    if is_local_host(host) or _is_private(host):
        yield LinkNote("error", "private_link", "text", line, url[:300], "its host is not on the public internet")
    elif not url.lower().startswith("https://"):
        yield LinkNote("info", "insecure_link", "text", line, url[:300], "is not encrypted: https:// is expected today")


def _is_private(host: str) -> bool:
    try:
        return not is_public(ip_address(host))
    except ValueError:
        return False
