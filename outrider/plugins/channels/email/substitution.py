"""The fast way to a message: compiled pieces are encoded once, values are put between them.

Owns when that is possible: every value plain, on one line, short. Otherwise it says so (`Unfit`) and the whole part is
encoded as one. Gives the same text as the slow way, and the same bytes for the same item every time.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from outrider.data.slots import Failed, Piece, Slot, escape, slots_of, text_of
from outrider.plugins.channels.email import headers
from outrider.plugins.channels.email.body import (
    PREFERENCES,
    UNSUBSCRIBE,
    Footer,
    html_footer,
    shows_link,
    text_footer,
    with_html_footer,
)
from outrider.plugins.channels.email.encoding import (
    LONGEST_LINE,
    Encoding,
    choose,
    longest_line,
    quoted_printable_piece,
    with_crlf,
)
from outrider.plugins.channels.email.frame import FIRST_FREE, Envelope, Frame, Hole, Shape, Skeleton, Text
from outrider.plugins.channels.email.html_policy import url_problem
from outrider.plugins.channels.email.links import LONGEST_URL, MARK

_SEPARATOR = "\x1f"
_NEEDS_ESCAPING = re.compile("[<>&\"'/]")
_NOT_ONE_LINE = re.compile("[\x00-\x08\x0a-\x1e\x7f\x85\u2028\u2029\ufffe\uffff\ud800-\udfff]")


Field = tuple[tuple[str, ...], str | None]
"""What a value is read by: path and default."""

Links = tuple[str, str]
"""The message's own addresses, in the order of `_OWN`."""
_OWN = ((UNSUBSCRIBE,), (PREFERENCES,))


class Unfit(Exception):
    """A value does not fit between pre-encoded pieces."""


class _Part:
    """One body part: its pieces with and without the footer, and which values go into it."""

    def __init__(self, name: str, pieces: Sequence[Piece], footer: Footer, fields: Sequence[Field]) -> None:
        self.name = name
        self._is_html = name == "html"
        with_footer = [*pieces]
        if not shows_link(pieces):
            footer = footer._replace(has_preferences=footer.has_preferences and not shows_link(pieces, PREFERENCES))
            if self._is_html:
                with_footer = with_html_footer(pieces, html_footer(footer))
            else:
                with_footer = [*_ended(pieces), *text_footer(footer)]
        self.variants = {False: _ended(pieces), True: _ended(with_footer)}
        constants = "".join([piece if isinstance(piece, str) else "" for piece in self.variants[True]])
        self.best = choose(constants)
        self.room = (LONGEST_LINE - longest_line(constants)) // _most_in_a_line(self.variants[True])
        uses = {self._use(slot): None for slot in slots_of(pieces) if not _is_own(slot)}
        self._positions = {use: position for position, use in enumerate(uses)}
        self._uses = [(fields.index(use[:2]), use[2]) for use in uses]
        self._marks = sorted({int(found[1]) for found in MARK.finditer(constants)}) if self._is_html else []
        self.value_count = len(uses) + len(_OWN) + len(self._marks)

    def _use(self, slot: Slot) -> tuple[tuple[str, ...], str | None, bool]:
        return (*_field(slot), self._is_html or slot.is_escaped)

    def values(
        self, raws: Sequence[str], escaped: Sequence[str], links: tuple[Links, Links], addresses: Sequence[str]
    ) -> list[str]:
        """The values of this part, then its own links, then the tracked addresses, not yet encoded.

        Takes:   links: as they are, and escaped.
        """
        chosen = [escaped[field] if is_escaped else raws[field] for field, is_escaped in self._uses]
        chosen += links[self._is_html]
        if self._marks:
            chosen += [addresses[number] for number in self._marks]
        return chosen

    def texts(self, encoding: Encoding, first: int, *, is_bulk: bool) -> list[Text]:
        """The encoded constants and the holes; the values of this part begin at index `first`."""
        encoded: list[Text] = []
        for piece in self.variants[is_bulk]:
            if isinstance(piece, str):
                encoded += self._constant(piece, encoding, first)
            elif _is_own(piece):
                encoded.append(Hole(first + len(self._positions) + _OWN.index(piece.path)))
            else:
                encoded.append(Hole(first + self._positions[self._use(piece)]))
        return encoded

    def _constant(self, piece: str, encoding: Encoding, first: int) -> list[Text]:
        """A constant, with a hole for each mark in it."""
        encoded: list[Text] = []
        for at, text in enumerate(MARK.split(piece) if self._marks else [piece]):
            if at % 2:
                encoded.append(Hole(first + len(self._positions) + len(_OWN) + self._marks.index(int(text))))
            else:
                encoded.append(text if encoding == "7bit" else quoted_printable_piece(text))
        return encoded


class Substitution:
    """Messages of one compiled content."""

    def __init__(self, parts: Mapping[str, Sequence[Piece]], frame: Frame, footer: Footer) -> None:
        self.parts = parts
        self._frame = frame
        self._footer = footer
        slots = [slot for pieces in parts.values() for slot in slots_of(pieces)]
        fields: list[Field] = list(dict.fromkeys(_field(slot) for slot in slots if not _is_own(slot)))
        self._fields = [(path[0] if len(path) == 1 else "", Slot(path, default)) for path, default in fields]
        self._uses_link = any(slot.path == (UNSUBSCRIBE,) for slot in slots)
        self._url_slots = [slot for slot in slots if slot.place == "url"]
        self._url_fields = [fields.index(_field(slot)) for slot in self._url_slots if not _is_own(slot)]
        self._bodies = [_Part(name, parts[name], footer, fields) for name in ("text", "html") if name in parts]
        self._has_preferences = footer.has_preferences or any(slot.path == (PREFERENCES,) for slot in slots)
        self._subject = [
            piece if isinstance(piece, str) else fields.index(_field(piece))
            for piece in parts["subject"]
            if isinstance(piece, str) or not _is_own(piece)
        ]
        self._is_fit = not any(part.best == "base64" for part in self._bodies) and not any(
            _is_own(slot) or slot.is_escaped for slot in slots_of(parts["subject"])
        )
        self._is_subject_constant = all(isinstance(piece, str) for piece in self._subject)
        self._subject_line = ""
        self._skeletons: dict[Shape, Skeleton] = {}

    def assemble(self, variables: Mapping[str, Any], envelope: Envelope, addresses: Sequence[str] = ()) -> bytes:
        """The bytes of one message.

        Takes:   variables: with the system's own; addresses: what goes into the marks, by number, as it stands in an
                 attribute.
        Raises:  Missing, NotPlain, Failed, ValueError (subject); Unfit when it has to be made the slow way.
        """
        link, preferences = envelope.unsubscribe_url, variables[PREFERENCES] if self._has_preferences else ""
        if not self._is_fit or (self._uses_link and not link and variables[UNSUBSCRIBE]):
            raise Unfit
        if link and self._footer.has_preferences and not preferences:
            raise Unfit
        links = (link, preferences), (escape_link(link), escape_link(preferences) if preferences else "")
        if addresses and max(map(len, addresses)) > LONGEST_URL:
            raise Unfit
        raws: list[str] = []
        for key, slot in self._fields:
            value = variables.get(key)
            raws.append(value if type(value) is str else text_of(slot, variables))
        joined = _SEPARATOR.join(raws)
        if _NOT_ONE_LINE.search(joined):
            raise Unfit
        escaped = raws
        if _NEEDS_ESCAPING.search(joined):
            escaped = [escape(raw) for raw in raws]
            joined = _SEPARATOR.join(escaped)
        for index in self._url_fields:
            _check_url(raws[index])
        subject = self._subject_line or self._make_subject(raws)
        is_ascii, length = joined.isascii(), len(joined) + len(links[1][0]) + len(links[1][1])
        kinds = tuple(
            [
                (part.name, "7bit" if is_ascii and part.best == "7bit" and length <= part.room else "quoted-printable")
                for part in self._bodies
            ]
        )
        values = [*envelope, subject]
        for part, (_, encoding) in zip(self._bodies, kinds, strict=True):
            of_part = part.values(raws, escaped, links, addresses)
            values += of_part if encoding == "7bit" else map(quoted_printable_piece, of_part)
        shape: Shape = (bool(link), kinds)  # type: ignore[assignment]  # the two literals above are Encodings
        return (self._skeletons.get(shape) or self._skeleton(shape)).join(values)

    def check_urls(self, variables: Mapping[str, Any]) -> None:
        """Refuse values that would give an address its scheme.

        Raises:  Failed.
        """
        for slot in self._url_slots:
            _check_url(text_of(slot, variables))

    def _make_subject(self, raws: Sequence[str]) -> str:
        text = headers.one_line("".join([piece if isinstance(piece, str) else raws[piece] for piece in self._subject]))
        if not text:
            raise Failed("the subject is empty")
        line = headers.unstructured("Subject", text)
        if self._is_subject_constant:
            self._subject_line = line
        return line

    def _skeleton(self, shape: Shape) -> Skeleton:
        is_bulk, kinds = shape
        bodies: dict[str, Sequence[Text]] = {}
        first = FIRST_FREE
        for part, (name, encoding) in zip(self._bodies, kinds, strict=True):
            bodies[name] = part.texts(encoding, first, is_bulk=is_bulk)
            first += part.value_count
        skeleton = self._skeletons[shape] = self._frame.skeleton(shape, bodies, first)
        return skeleton


def _field(slot: Slot) -> Field:
    return slot.path, slot.default


def _is_own(slot: Slot) -> bool:
    """Whether a slot shows an address of ours as it is; escaped in a text it is a value like others."""
    return slot.path in _OWN and not slot.is_escaped


def _most_in_a_line(pieces: Sequence[Piece]) -> int:
    """How often one value stands in one line at most, at least 1: a line grows by every one of them."""
    most, in_line = 1, Counter[tuple[str, ...]]()
    for piece in pieces:
        if not isinstance(piece, str):
            in_line[piece.path] += 1
            most = max(most, in_line[piece.path])
        elif "\n" in piece:
            in_line.clear()
    return most


def _check_url(value: str) -> None:
    if not value.startswith(("https://", "http://")):
        problem = url_problem(value)
        if problem:
            raise Failed(f"html: {problem}")


def escape_link(link: str) -> str:
    """Escape a link as `slots.escape` does; it has no angle brackets and no double quotes."""
    return link.replace("&", "&amp;").replace("/", "&#x2f;").replace("'", "&#x27;")


def _ended(pieces: Sequence[Piece]) -> list[Piece]:
    """Pieces with CRLF line ends that end with one; neighbouring constants are joined."""
    merged: list[Piece] = []
    for piece in pieces:
        if isinstance(piece, str) and merged and isinstance(merged[-1], str):
            merged[-1] += piece
        else:
            merged.append(piece)
    if not (merged and isinstance(merged[-1], str)):
        merged.append("\n")
    elif not merged[-1].endswith("\n"):
        merged[-1] += "\n"
    return [with_crlf(piece) if isinstance(piece, str) else piece for piece in merged]
