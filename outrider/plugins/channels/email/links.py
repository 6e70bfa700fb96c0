"""Tracked links and the opening pixel: marks in the source of an HTML part, filled per recipient.

Owns which links are tracked and what they are called. A mark is constant text of fixed length, so that everything
before sending (compiling, encoding, line lengths) sees a constant; it becomes the recipient's own address last. What
is never touched: links to unsubscribe and to the web version, anything but http, links that say
`data-tracking="off"`, links whose host is not written out, and the text part.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import unescape

from outrider.contracts.channel import Link, Tracking
from outrider.data.slots import pieces
from outrider.data.template_syntax import Segment, split
from outrider.plugins.channels.email.body import end_of_body
from outrider.plugins.channels.email.html_policy import Scanner

MOST_LINKS = 500
LONGEST_URL = 250
"""Characters of a mark; an address that is longer is put in by the slow way."""
PIXEL = 0
"""The number of the pixel's mark; links are numbered from 1."""
MARK = re.compile(r"outrider-mark-(\d{3})-x+")
_ADDRESS = re.compile(r"https?://[A-Za-z0-9.:\-\[\]_]+(?P<end>[/?#]|\Z)", re.IGNORECASE)
_PIXEL = '<img src="{}" width="1" height="1" alt="" style="display:block;border:0;width:1px;height:1px">'
_LINKED = ("a", "area")


@dataclass(frozen=True, slots=True)
class Marked:
    """A source with marks, and the links that they stand for: mark n is `links[n - 1]`."""

    html: str
    links: tuple[Link, ...]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the value of an href stands in the source."""

    start: int
    end: int
    is_raw: bool


@dataclass
class _Finder(Scanner):
    """The scanner of the HTML policy, noting where addresses of links stand."""

    base: int = 0
    value_start: int = 0
    value_end: int = 0
    is_raw: bool = False
    is_off: bool = False
    waiting: list[_Place] = field(default_factory=list)
    found: list[_Place] = field(default_factory=list)

    def take(self, segment: Segment) -> None:
        """Go through one segment."""
        self.base, self.is_raw = segment.start, segment.kind == "raw"
        super().take(segment)

    def begin_tag(self, name: str, *, is_end: bool, is_whole: bool) -> None:
        """The tag before is complete."""
        self.settle()
        super().begin_tag(name, is_end=is_end, is_whole=is_whole)

    def before_value(self, at: int, character: str) -> int:
        """Note where a value begins."""
        end = super().before_value(at, character)
        self.value_start = self.value_end = self.base + end
        return end

    def in_quoted(self, text: str, at: int) -> int:
        """Note where a quoted value ends."""
        end = text.find(self.quote, at)
        self.value_end = self.base + (end if end >= 0 else len(text))
        return super().in_quoted(text, at)

    def in_unquoted(self, text: str, at: int) -> int:
        """Note where an unquoted value ends."""
        end = super().in_unquoted(text, at)
        if self.mode == "unquoted":
            self.value_end = self.base + end
        return end

    def end_value(self) -> None:
        """Note the address of a link."""
        if self.attribute == "href" and self.tag in _LINKED:
            self.waiting.append(_Place(self.value_start, self.value_end, self.is_raw))
        elif self.attribute == "data-tracking" and self.value.strip().lower() == "off":
            self.is_off = True
        super().end_value()

    def settle(self) -> None:
        """A tag is complete: its link counts unless it said no."""
        if not self.is_off:
            self.found += self.waiting
        self.waiting, self.is_off = [], False


def marked(
    html: str,
    tracking: Tracking,
    *,
    is_template: bool,
    with_variables: bool,
    numbers: Mapping[Link, int] | None = None,
) -> Marked:
    """Put marks into the source of an HTML part.

    Takes:   with_variables: also links that hold variables; only where nothing but substitution happens, because their
             destination is put together from the message's variables when somebody clicks. numbers: those of links
             numbered before; others are then left alone.
    Raises:  TemplateSyntaxProblem.
    """
    links: dict[Link, int] = dict(numbers or {})
    most = MOST_LINKS if numbers is None else len(links)
    done: list[str] = []
    at = 0
    for place in _places(html, is_template=is_template) if tracking.clicks else ():
        link = _link(html[place.start : place.end], is_template=is_template and not place.is_raw)
        if link is None or (not with_variables and any(not isinstance(part, str) for part in link.parts)):
            continue
        if link not in links and len(links) >= most:
            continue
        number = links.setdefault(link, len(links) + 1)
        done += [html[at : place.start], mark(number)]
        at = place.end
    rest = html[at:]
    if tracking.opens:
        end = end_of_body(rest)
        rest = f"{rest[:end]}{_PIXEL.format(mark(PIXEL))}{rest[end:]}"
    return Marked("".join([*done, rest]), tuple(links))


def mark(number: int) -> str:
    """The constant text that stands for an address."""
    return f"outrider-mark-{number:03d}-".ljust(LONGEST_URL, "x")


def filled(html: str, addresses: Sequence[str]) -> str:
    """A rendered part with the recipient's addresses; `addresses[n]` for mark n, escaped already."""
    return MARK.sub(lambda found: addresses[int(found[1])] if int(found[1]) < len(addresses) else found[0], html)


def in_attribute(url: str) -> str:
    """An address as it stands in a quoted attribute."""
    return url.replace("&", "&amp;").replace("'", "&#x27;")


def _places(html: str, *, is_template: bool) -> list[_Place]:
    finder = _Finder()
    for segment in split(html) if is_template else iter((Segment("raw", html, 1),)):
        finder.take(segment)
    finder.settle()
    return finder.found


def _link(source: str, *, is_template: bool) -> Link | None:
    """The link of an href's source; None when it is not tracked."""
    split_up = pieces(source) if is_template else [source]
    if not split_up or not isinstance(split_up[0], str):
        return None
    parts: list[str | tuple[tuple[str, ...], str | None]] = []
    for piece in split_up:
        if isinstance(piece, str):
            parts.append(unescape(piece))
        elif piece.is_escaped:
            return None
        else:
            parts.append((piece.path, piece.default))
    parts[0] = str(parts[0]).lstrip()
    if isinstance(parts[-1], str):
        parts[-1] = parts[-1].rstrip()
    address = _ADDRESS.match(str(parts[0]))
    if not address or (len(parts) > 1 and not address["end"]):
        return None
    return Link(_key(parts), unescape(source.strip()), tuple(parts))


def _key(parts: Sequence[object]) -> int:
    digest = hashlib.sha256(json.dumps(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True) or 1
