"""Content transfer encodings of text parts: 7bit, quoted-printable or base64, always safe for a 7-bit path.

Owns line ends and line lengths: what leaves here is ASCII with CRLF line ends, no bare CR or LF, no line over 998
octets. 8bit is never used: a server without 8BITMIME would have to re-encode, which breaks DKIM.
"""

from __future__ import annotations

import binascii
import re
from typing import Literal

Encoding = Literal["7bit", "quoted-printable", "base64"]

LONGEST_LINE = 998
"""RFC 5322 2.1.1, without the CRLF."""

_QP_WIDTH = 76
_BASE64_WIDTH = 76
_BASE64_IS_SMALLER_FROM = 6
"""Quoted-printable costs two octets more per non-ASCII octet, base64 a third of all: equal at one in six."""

_TOO_WIDE = re.compile(r"[^\r\n]{77,}")
_QP_SOLID = re.compile(r"[!-<>-~]+")
_QP_PLAIN = re.compile(r"[!-<>-~ ]{0,73}[!-<>-~]")
UNSENDABLE = re.compile("[\x00\ufffe\uffff\ud800-\udfff]")
"""What no text part may have [T46]."""


def is_sendable(text: str) -> bool:
    """Whether a text that came out of UTF-8 can be sent: as `UNSENDABLE`, fifty times as fast."""
    return not ("\0" in text or (not text.isascii() and ("\ufffe" in text or "\uffff" in text)))


def with_crlf(text: str) -> str:
    """Make every kind of line end CRLF."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text.replace("\n", "\r\n")


def longest_line(text: str) -> int:
    """Characters of the longest line of a text with CRLF line ends."""
    return max(map(len, text.split("\r\n")))


def choose(text: str) -> Encoding:
    """The cheapest encoding that carries a text with CRLF line ends."""
    if text.isascii():
        return "7bit" if longest_line(text) <= LONGEST_LINE else "quoted-printable"
    octets = len(text.encode())
    outside = octets - len(text.encode("ascii", "ignore"))
    return "base64" if outside * _BASE64_IS_SMALLER_FROM > octets else "quoted-printable"


def encode(text: str, encoding: Encoding) -> str:
    """Encode a text with CRLF line ends; the result ends with CRLF if it is not empty and the text does."""
    match encoding:
        case "7bit":
            return text
        case "quoted-printable":
            return quoted_printable(text)
        case "base64":
            return base64_lines(text.encode())


def base64_lines(content: bytes) -> str:
    """Base64 on lines of 76 characters, each with its CRLF."""
    flat = binascii.b2a_base64(content, newline=False).decode("ascii")
    lines = [flat[at : at + _BASE64_WIDTH] for at in range(0, len(flat), _BASE64_WIDTH)]
    return "\r\n".join([*lines, ""])


def quoted_printable(text: str) -> str:
    """Quoted-printable of a text with CRLF line ends; lines have at most 76 characters.

    Source:  RFC 2045 6.7; trailing white space of a line is always encoded.
    """
    encoded = binascii.b2a_qp(text.encode(), istext=True).decode("ascii")
    if len(encoded) <= _QP_WIDTH:
        return encoded
    if "\r\n" not in text:
        encoded = encoded.replace("=\n", "=\r\n")
    if (
        longest_line(encoded) > _QP_WIDTH
    ):  # binascii does not count the two characters that a last space of a line grows by
        encoded = _TOO_WIDE.sub(_broken, encoded)
    return encoded


def _broken(line: re.Match[str]) -> str:
    cut = _cut(line[0])
    return f"{line[0][:cut]}=\r\n{line[0][cut:]}"


def _cut(line: str) -> int:
    """Where a line may be broken softly: near its end, never inside `=XX`."""
    cut = min(len(line), _QP_WIDTH) - 4
    while "=" in line[cut - 2 : cut]:
        cut -= 1
    return cut


def quoted_printable_piece(text: str) -> str:
    """Quoted-printable that can stand before any other piece: it ends where a line starts, if need be by a soft break.

    The pieces of a text, encoded one by one and joined, decode to the text: constant ones are encoded once per content,
    values once per recipient.
    """
    if not text:
        return ""
    if _QP_PLAIN.fullmatch(text):
        return f"{text}=\r\n"
    if _QP_SOLID.fullmatch(text):
        return "=\r\n".join([text[at : at + _QP_WIDTH - 1] for at in range(0, len(text), _QP_WIDTH - 1)]) + "=\r\n"
    encoded = quoted_printable(text)
    if encoded.endswith("\r\n"):
        return encoded
    start = encoded.rfind("\n") + 1
    if len(encoded) - start < _QP_WIDTH:
        return f"{encoded}=\r\n"
    cut = start + _cut(encoded[start:])
    return f"{encoded[:cut]}=\r\n{encoded[cut:]}=\r\n"
