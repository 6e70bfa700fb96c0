"""Command lines of SMTP: reading MAIL and RCPT strictly, and writing replies.

Owns the grammar of paths and parameters [RFC 5321 4.1.2, RFC 6531, RFC 1870, RFC 6152]. Pure: no state of a session.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

import msgspec

_ATOM: Final = rb"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\x80-\xff-]+"
_DOT_STRING: Final = _ATOM + rb"(?:\." + _ATOM + rb")*"
_QUOTED: Final = rb'"(?:[ !#-\[\]-~\x80-\xff]|\\[ -~])*"'
_LABEL: Final = rb"[A-Za-z0-9\x80-\xff](?:[A-Za-z0-9\x80-\xff-]*[A-Za-z0-9\x80-\xff])?"
_DOMAIN: Final = rb"(?:" + _LABEL + rb"(?:\." + _LABEL + rb")*|\[[\x21-\x5a\x5e-\x7e]+\])"
_MAILBOX: Final = rb"(?P<local>" + _DOT_STRING + rb"|" + _QUOTED + rb")@" + _DOMAIN
_MAIL: Final = re.compile(rb"(?i:MAIL FROM:)<(?P<path>(?:" + _MAILBOX + rb")?)>(?: (?P<params>.*))?")
_RCPT: Final = re.compile(
    rb"(?i:RCPT TO:)<(?P<path>" + _MAILBOX + rb"|(?i:(?P<postmaster>postmaster)))>(?: (?P<params>.*))?"
)
_PARAM: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([\x21-\x3c\x3e-\x7e\x80-\U0010ffff]+))?")
_LONGEST_PATH_BYTES: Final = 254  # 256 with the angle brackets [RFC 5321 4.5.3.1.3]
_LONGEST_LOCAL_BYTES: Final = 64

BAD_SENDER: Final = b"501 5.1.7 Bad sender: MAIL FROM:<local@domain>, no space after the colon\r\n"
BAD_RECIPIENT: Final = b"501 5.1.3 Bad recipient: RCPT TO:<local@domain>, no space after the colon\r\n"
BAD_PARAMS: Final = b"501 5.5.4 Bad parameters\r\n"


class Path(msgspec.Struct, frozen=True):
    """The sender or recipient of a message as the client gave it, and the parameters after it."""

    address: str
    params_text: str = ""
    params: dict[str, str | None] = {}


def reply(code: int, text: str, enhanced: str = "") -> bytes:
    """One reply; a line feed in `text` makes it multi-line. Text beyond ASCII is replaced."""
    prefix = f"{enhanced} " if enhanced else ""
    lines = text.split("\n") or [""]
    last = len(lines) - 1
    return "".join(
        f"{code}{'-' if position < last else ' '}{prefix}{line.strip()}\r\n" for position, line in enumerate(lines)
    ).encode("ascii", "replace")


def in_three_lines(answer: bytes) -> bytes:
    """The same single-line answer as a multi-line one."""
    code, text = answer[:3], answer[4:]
    enhanced = re.match(rb"[245]\.\d+\.\d+ ", text)
    prefix = enhanced[0] if enhanced else b""
    return b"%b-%bThis answer\r\n%b-%bhas three lines\r\n%b" % (code, prefix, code, prefix, answer)


@lru_cache(maxsize=256)
def parse_mail(line: bytes) -> Path | bytes:
    """Read a MAIL line; the answer when it cannot be read."""
    return _parse(_MAIL.fullmatch(line), BAD_SENDER)


def parse_rcpt(line: bytes) -> Path | bytes:
    """Read an RCPT line; the answer when it cannot be read."""
    return _parse(_RCPT.fullmatch(line), BAD_RECIPIENT)


def _parse(match: re.Match[bytes] | None, complaint: bytes) -> Path | bytes:
    if match is None or len(match["local"] or b"") > _LONGEST_LOCAL_BYTES or len(match["path"]) > _LONGEST_PATH_BYTES:
        return complaint
    try:
        address = match["path"].decode("utf-8")
        text = (match["params"] or b"").decode("utf-8")
    except UnicodeDecodeError:
        return complaint
    if match["params"] is None:
        return Path(address)
    params: dict[str, str | None] = {}
    for word in text.split(" "):
        param = _PARAM.fullmatch(word)
        if param is None or param[1].upper() in params:
            return BAD_PARAMS
        params[param[1].upper()] = param[2]
    return Path(address, text, params)
