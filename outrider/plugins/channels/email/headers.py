"""Header fields as bytes on the wire: what text is refused, RFC 2047 words, folding, mailboxes, dates.

Owns the one place where text becomes a header line; every function here gives pure ASCII without a bare CR or LF (an
SMTPUTF8 address excepted, which stays as it is). Never uses the standard library's `email`: it lets text add headers.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Mapping
from datetime import UTC, datetime

from outrider.base.errors import Refused

_WIDTH = 78
"""RFC 5322 2.1.1: lines should have at most 78 characters without CRLF; 998 is the hard limit."""
_WORD_WIDTH = 75
"""RFC 2047 2: an encoded word has at most 75 characters."""
_LONGEST_PLAIN_WORD = 60
_LONGEST_HEADER_VALUE = 900
_LONGEST_RENDERED = 4_000
"""Characters of a rendered header text: no reader shows as many, and folding endless ones would hold up everybody."""

_LINE_BREAKS = re.compile("[\x00-\x1f\x7f\x80-\x9f\u2028\u2029]")
_LINE_BREAK_RUNS = re.compile("[\x01-\x1f\x7f\x80-\x9f\u2028\u2029]+")
_NEVER = re.compile("[\x00\ufffe\uffff\ud800-\udfff]")
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*\Z")
_FIELD_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,75}\Z")
_TOKEN = re.compile(r"[A-Za-z0-9!#$&^_.+-]+\Z")

_Q_SAFE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!*+-/")
_Q = [chr(octet) if octet in _Q_SAFE else "_" if octet == ord(" ") else f"={octet:02X}" for octet in range(256)]

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

_SYSTEM = frozenset(
    {
        "from", "sender", "to", "cc", "bcc", "reply-to", "subject", "date", "message-id", "mime-version",
        "list-unsubscribe", "list-unsubscribe-post", "dkim-signature", "received", "return-path",
        "authentication-results",
    }
)  # fmt: skip
_SYSTEM_PREFIXES = ("content-", "resent-", "arc-", "x-outrider-")


def text_problem(text: str) -> str | None:
    """Why a text written by an author may not become a header, or None.

    What is refused here is what can grow a second header somewhere on the way: line breaks, NUL, and encoded words that
    a careless program decodes into line breaks [T40, T41].
    """
    if _NEVER.search(text):
        return "has a character that cannot be sent (NUL, U+FFFE, U+FFFF or half a surrogate pair)"
    if _LINE_BREAKS.search(text):
        return "has a line break or control character; a header is one line"
    if _has_encoded_word(text):
        return "has an encoded word (=?…?=); write the text itself, it is encoded when it is sent"
    return None


def text_code(text: str) -> str:
    """The stable code of what `text_problem` says: a hidden line is told apart, because it is an attack [H68]."""
    return "header_newline" if _LINE_BREAKS.search(text) and not _NEVER.search(text) else "invalid_header"


def _has_encoded_word(text: str) -> bool:
    """Whether `=?` stands before `?=` somewhere, whatever is between them."""
    start = text.find("=?")
    return start >= 0 and text.find("?=", start + 2) >= 0


def one_line(text: str) -> str:
    """A rendered header text on one line: every run of line breaks and controls becomes one space, ends are trimmed.

    Raises:  ValueError when it has NUL, U+FFFE, U+FFFF, half a surrogate pair, an encoded word or more than 4,000
             characters: no honest value does.
    """
    if len(text) > _LONGEST_RENDERED:
        raise ValueError(f"has more than {_LONGEST_RENDERED:,} characters; a header is one line")
    if text.isascii() and text.isprintable() and "=?" not in text:
        return text.strip(" ")
    flat = _LINE_BREAK_RUNS.sub(" ", text).strip()
    problem = text_problem(flat)
    if problem:
        raise ValueError(problem)
    return flat


def unstructured(name: str, text: str) -> str:
    """`Name: text` without the final CRLF, folded, encoded where it must be.

    Takes:   text of one line (`one_line`, `text_problem`).
    Source:  RFC 5322 2.2.3 and RFC 2047
    """
    room = _WIDTH - len(name) - 2
    is_ascii = text.isascii() and text.isprintable()  # several looks: 41 % of the time of one expression for all
    if not is_ascii or "=?" in text or "  " in text or text[:1] == " " or text[-1:] == " ":
        return f"{name}: {_encoded(text, room - 2)}"
    if len(text) <= room:
        return f"{name}: {text}"
    words = text.split(" ")
    if max(map(len, words)) > _LONGEST_PLAIN_WORD:
        return f"{name}: {_encoded(text, room - 2)}"
    lines, line = [], f"{name}:"
    for word in words:
        if len(line) + 1 + len(word) > _WIDTH:
            lines.append(line)
            line = ""
        line += f" {word}"
    return "\r\n".join([*lines, line])


def _encoded(text: str, room: int) -> str:
    """One or more RFC 2047 words on folded lines; each whole code points, at most 75 characters [RFC 2047 2 and 5]."""
    octets = text.encode()
    encoded = "".join([_Q[octet] for octet in octets])
    is_q = len(encoded) <= len(octets) * 4 // 3
    words: list[str] = []
    rest, width = text, min(room, _WORD_WIDTH)
    if not is_q:
        encoded = binascii.b2a_base64(octets, newline=False).decode("ascii")
    if len(encoded) <= width - len("=?utf-8?q??="):
        return f"=?utf-8?{'q' if is_q else 'b'}?{encoded}?="
    while rest:
        taken, word = _one_word(rest, width - len("=?utf-8?q??="), is_q=is_q)
        words.append(f"=?utf-8?{'q' if is_q else 'b'}?{word}?=")
        rest, width = rest[taken:], _WORD_WIDTH
    return "\r\n ".join(words)


def _one_word(text: str, room: int, *, is_q: bool) -> tuple[int, str]:
    """How many code points fit into `room` encoded characters, at least one, and their encoding."""
    used, count, octets = 0, 0, bytearray()
    for character in text:
        piece = character.encode()
        size = sum(len(_Q[octet]) for octet in piece) if is_q else len(piece)
        limit = room if is_q else room // 4 * 3
        if count and used + size > limit:
            break
        used += size
        count += 1
        octets += piece
    if is_q:
        return count, "".join([_Q[octet] for octet in octets])
    return count, binascii.b2a_base64(bytes(octets), newline=False).decode("ascii")


def mailbox(name: str, address: str) -> str:
    """`Name <address>`, the name as atoms, quoted or encoded, whatever it needs; folded before the address if long.

    Source:  RFC 5322 3.4, RFC 2047 5 (3); [T48]
    """
    if not name:
        return address
    if not name.isascii() or "=?" in name or len(name) > _LONGEST_PLAIN_WORD:
        phrase = _encoded(name, _WORD_WIDTH - 20)
    elif _ATOMS.match(name):
        phrase = name
    else:
        escaped = name.replace("\\", "\\\\").replace('"', '\\"')
        phrase = f'"{escaped}"'
    separator = " " if "\r\n" not in phrase and len(phrase) + len(address) < _WORD_WIDTH - 20 else "\r\n "
    return f"{phrase}{separator}<{address}>"


def date(moment: datetime) -> str:
    """The Date of RFC 5322 in UTC; English names whatever the locale."""
    at = moment.astimezone(UTC)
    return f"{_DAYS[at.weekday()]}, {at.day:02} {_MONTHS[at.month - 1]} {at.year:04} {at:%H:%M:%S} +0000"


def parameter(name: str, value: str) -> str:
    """`name="value"` of a MIME header, or its RFC 2231 form when the value is not plain ASCII [H71]."""
    if value.isascii() and value.isprintable() and len(value) <= _LONGEST_PLAIN_WORD:
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'{name}="{escaped}"'
    encoded = "".join([chr(octet) if _is_attribute_character(octet) else f"%{octet:02X}" for octet in value.encode()])
    if len(encoded) <= _LONGEST_PLAIN_WORD:
        return f"{name}*=utf-8''{encoded}"
    return ";\r\n ".join(_continued(name, encoded))


def _continued(name: str, encoded: str) -> list[str]:
    """The RFC 2231 3 continuation of an encoded value; no percent triple is cut."""
    pieces = re.findall(r"(?:%[0-9A-F]{2}|[^%]){1,18}", encoded)
    pieces[0] = f"utf-8''{pieces[0]}"
    return [f"{name}*{at}*={piece}" for at, piece in enumerate(pieces)]


def _is_attribute_character(octet: int) -> bool:
    return bytes((octet,)).isalnum() or octet in b"!#$&+-.^_`{|}~"


def check_custom(headers: Mapping[str, str], *, field: str = "headers") -> None:
    """Check the extra headers of a sender: system headers, bad names and bad values are refused by name [T50].

    Raises:  Refused(system_header | invalid_header).
    """
    for name, value in headers.items():
        where = f"{field}.{name[:80]}"
        if not _FIELD_NAME.match(name):
            raise Refused("invalid_header", "must be letters, digits and hyphens", field=where)
        if name.lower() in _SYSTEM or name.lower().startswith(_SYSTEM_PREFIXES):
            raise Refused("system_header", "is set by the system and cannot be overridden", field=where)
        if not isinstance(value, str) or not value.strip() or len(value) > _LONGEST_HEADER_VALUE:
            raise Refused("invalid_header", f"must be 1 to {_LONGEST_HEADER_VALUE} characters", field=where)
        problem = text_problem(value)
        if problem:
            raise Refused("invalid_header", problem, field=where)


def is_content_type(text: str) -> bool:
    """Whether an attachment may carry this media type: `type/subtype` without parameters, not a container."""
    kind, slash, subtype = text.partition("/")
    is_token = bool(slash and _TOKEN.match(kind) and _TOKEN.match(subtype))
    return is_token and kind.lower() not in ("multipart", "message")
