"""The addresses in a content, looked at as a recipient would follow them: dead, private, relative, missing.

Owns the notes; refuses nothing (html_policy does) and dials nobody.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import unescape
from ipaddress import ip_address
from typing import Literal
from urllib.parse import urlsplit

from outrider.base.web import is_local_host
from outrider.contracts.channel import Content, LinkNote
from outrider.data.egress import is_public
from outrider.data.template_syntax import Segment, TemplateSyntaxProblem, split
from outrider.plugins.channels.email.body import UNSUBSCRIBE
from outrider.plugins.channels.email.html_policy import EXPRESSION, Scanner, url_problem

_MOST_NOTES = 200
_Verdict = tuple[Literal["error", "warning", "info"], str, str]
_PRIVATE_NAME = re.compile(r"(?:^|\.)(?:local|localdomain|lan|internal|intranet|home|corp|invalid)$")
_IN_TEXT = re.compile(r"https?://[^\s<>\"'()]+", re.IGNORECASE)
_FOLLOWED = frozenset({("a", "href"), ("area", "href"), ("img", "src"), ("source", "src"), ("video", "src")})


@dataclass(frozen=True, slots=True)
class _Address:
    """An address as it stands in a part; expressions in it are `EXPRESSION`."""

    part: str
    line: int
    url: str
    is_link: bool


@dataclass
class _Finder(Scanner):
    """The scanner of the HTML policy, noting addresses."""

    found: list[_Address] = field(default_factory=list)

    def end_value(self) -> None:
        """Note the address of a link or image."""
        if (self.tag, self.attribute) in _FOLLOWED:
            self.found.append(
                _Address("html", self.line, unescape(self.value.strip()), is_link=self.attribute == "href")
            )
        super().end_value()


def reviewed(content: Content, *, is_bulk: bool) -> list[LinkNote]:
    """Notes on every address, in the order of the source, at most 200; see `contracts.channel.Channel.review`."""
    notes: list[LinkNote] = []
    for address in _addresses(content):
        notes += [
            LinkNote(severity, code, address.part, address.line, _shown(address.url), detail)
            for severity, code, detail in _judged(address)
        ]
    sources = (content.html or "", content.text or "")
    if is_bulk and not any(UNSUBSCRIBE in source for source in sources):
        detail = "shows no unsubscribe_url: a footer with the link is added to every bulk message"
        notes.insert(0, LinkNote("info", "no_unsubscribe_link", "html" if content.html else "text", 0, "", detail))
    return notes[:_MOST_NOTES]


def links(content: Content) -> list[str]:
    """The web addresses without expressions, each once: those that could be dialled."""
    urls = (each.url for each in _addresses(content) if EXPRESSION not in each.url)
    return list(dict.fromkeys(url for url in urls if url.lower().startswith(("http://", "https://"))))


def _addresses(content: Content) -> list[_Address]:
    found: list[_Address] = []
    if content.html is not None:
        finder = _Finder()
        for segment in _segments(content.html, is_template=content.is_template):
            finder.take(segment)
        found += finder.found
    for part, source in (("text", content.text or ""), ("preheader", content.preheader)):
        found += _in_text(part, list(_segments(source, is_template=content.is_template)))
    return found


def _in_text(part: str, segments: list[Segment]) -> Iterator[_Address]:
    """What mail programs make links of, in words that stand for themselves."""
    for at, segment in enumerate(segments):
        if segment.kind in ("text", "raw"):
            for each in _IN_TEXT.finditer(segment.text):
                goes_on = each.end() == len(segment.text) and at + 1 < len(segments)  # with an expression
                url = each[0] + EXPRESSION if goes_on else each[0].rstrip(".,;:!?")
                line = segment.line + segment.text.count("\n", 0, each.start())
                yield _Address(part, line, url, is_link=True)


def _segments(source: str, *, is_template: bool) -> Iterator[Segment]:
    """The segments of a source; none of one that cannot be read, which saving refuses."""
    try:
        yield from split(source) if is_template else iter((Segment("raw", source, 1),))
    except TemplateSyntaxProblem:
        return


def _judged(address: _Address) -> Iterator[_Verdict]:
    """What is wrong with one address, as (severity, code, detail)."""
    url = address.url
    if url.startswith(EXPRESSION):
        return
    if address.is_link and (not url or url == "#"):
        yield "error", "empty_link", "leads nowhere"
        return
    if url.startswith("#") or url.lower().startswith(("mailto:", "tel:", "sms:", "cid:", "data:")):
        return
    if url_problem(url):
        yield "error", "dead_scheme", "no mail program follows an address of this kind"
        return
    if not url.lower().startswith(("http://", "https://")):
        yield "error", "relative_link", "has no host: in a mail it leads nowhere"
        return
    yield from _judged_host(url)


def _judged_host(url: str) -> Iterator[_Verdict]:
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        host = ""
    if EXPRESSION in host:
        return
    if not host or host != host.strip("."):
        yield "error", "invalid_link", "is no web address"
    elif is_local_host(host):
        yield "error", "local_link", "leads to the reader's own machine"
    elif _is_private(host):
        yield "error", "private_link", "its host is not on the public internet"
    elif url.lower().startswith("http://"):
        yield "info", "insecure_link", "is not encrypted: https:// is expected today"


def _is_private(host: str) -> bool:
    try:
        return not is_public(ip_address(host))
    except ValueError:
        return "." not in host or bool(_PRIVATE_NAME.search(host.lower()))


def _shown(url: str) -> str:
    return url.replace(EXPRESSION, "{{…}}")[:300]
