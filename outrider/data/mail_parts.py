"""A finished email taken apart again, for providers that want its parts as JSON and make the bytes themselves.

Reads exactly what the email channel makes (7bit, quoted-printable, base64; UTF-8), strictly: what is of another form is
an error, never a guess. The bytes stay the one truth of a message, whichever provider carries it. Pure.
"""

from __future__ import annotations

import binascii
import re
from dataclasses import dataclass, field
from typing import Final

_DEEPEST: Final = 4
_WORD: Final = re.compile(r"=\?utf-8\?([qb])\?([^?]*)\?=(?:[ \t]+(?==\?utf-8\?))?", re.IGNORECASE)
_MAILBOX: Final = re.compile(r"(?s)(.*?)\s*<([^<>\s]+)>")
_ATOMS: Final = re.compile(r"[\w!#$%&'*+/=?^`{|}~ -]*")
_PARAMETER: Final = re.compile(r';\s*([a-z]+)(?:\*(\d+)?\*?)?=(?:"((?:[^"\\]|\\.)*)"|([^;\s]+))', re.IGNORECASE)
_STRUCTURE: Final = frozenset(
    {
        "from", "to", "reply-to", "subject", "date", "message-id", "mime-version", "content-type",
        "content-transfer-encoding", "content-disposition", "dkim-signature",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class File:
    """An attachment; its content in base64 without line ends."""

    name: str
    content_type: str
    content_base64: str


@dataclass(slots=True)
class MailParts:
    """What a provider asks for. `headers` are those that are not of the structure; their names as written."""

    sender: str = ""
    reply_to: str = ""
    subject: str = ""
    text: str | None = None
    html: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    files: list[File] = field(default_factory=list)


def parts_of(message: bytes) -> MailParts:
    """The parts of a message of ours.

    Raises:  ValueError saying what of it is of another form.
    """
    headers, body = _entity(message)
    parts = MailParts()
    for name, text in headers:
        match name.lower():
            case "from":
                parts.sender = mailbox(text)
            case "reply-to":
                parts.reply_to = text.strip()
            case "subject":
                parts.subject = decoded(text)
            case lower if lower not in _STRUCTURE:
                parts.headers[name] = decoded(text)
    _gather({name.lower(): text for name, text in headers}, body, parts, 0)
    return parts


def decoded(text: str) -> str:
    """A header text with its encoded words read."""

    def word(found: re.Match[str]) -> str:
        raw = found[2].encode("ascii")
        octets = binascii.a2b_qp(raw, header=True) if found[1] in "qQ" else binascii.a2b_base64(raw)
        return octets.decode()

    return _WORD.sub(word, text).strip()


def mailbox(text: str) -> str:
    """`Name <a@b>` with the name as people read it; quoted where it must be."""
    found = _MAILBOX.fullmatch(text.strip())
    if found is None:
        return text.strip()
    name = found[1].strip()
    if not name.startswith('"'):
        name = decoded(name)
        if not _ATOMS.fullmatch(name):
            escaped = name.replace("\\", "\\\\").replace('"', '\\"')
            name = f'"{escaped}"'
    return f"{name} <{found[2]}>" if name else found[2]


def _entity(octets: bytes) -> tuple[list[tuple[str, str]], bytes]:
    """Header fields, unfolded, and the body."""
    head, mark, body = octets.partition(b"\r\n\r\n")
    if not mark:
        raise ValueError("has no end of its header")
    found = []
    for line in re.sub(r"\r\n(?=[ \t])", "", head.decode()).split("\r\n"):
        name, colon, text = line.partition(":")
        if not colon:
            raise ValueError("has a header line without a colon")
        found.append((name.strip(), text.strip()))
    return found, body


def _gather(headers: dict[str, str], body: bytes, parts: MailParts, depth: int) -> None:
    """Put an entity where it belongs: text, HTML, a file, or several of them."""
    kind, parameters = _typed(headers.get("content-type", "text/plain"))
    if kind.startswith("multipart/"):
        if depth == _DEEPEST:
            raise ValueError("is nested too deep")
        for piece in _pieces(body, parameters.get("boundary", "")):
            inner, inner_body = _entity(piece)
            _gather({name.lower(): text for name, text in inner}, inner_body, parts, depth + 1)
        return
    encoding = headers.get("content-transfer-encoding", "7bit").lower()
    if headers.get("content-disposition", "").lower().startswith("attachment"):
        if encoding != "base64":
            raise ValueError(f"has a file in {encoding}")
        _, named = _typed(headers["content-disposition"])
        parts.files.append(File(named.get("filename", ""), kind, body.replace(b"\r\n", b"").decode("ascii")))
    elif kind == "text/plain" and parts.text is None:
        parts.text = _text(body, encoding)
    elif kind == "text/html" and parts.html is None:
        parts.html = _text(body, encoding)
    else:
        raise ValueError(f"has a part of type {kind}")


def _pieces(body: bytes, boundary: str) -> list[bytes]:
    """The parts of a multipart body."""
    pieces = (b"\r\n" + body).split(b"\r\n--" + boundary.encode())
    if not boundary or len(pieces) < 3 or not pieces[-1].startswith(b"--"):  # noqa: PLR2004 - what precedes, one part, the end
        raise ValueError("has no whole multipart body")
    return [piece.removeprefix(b"\r\n") for piece in pieces[1:-1]]


def _text(body: bytes, encoding: str) -> str:
    match encoding:
        case "7bit" | "8bit":
            octets = body
        case "quoted-printable":
            octets = binascii.a2b_qp(body)
        case "base64":
            octets = binascii.a2b_base64(body)
        case _:
            raise ValueError(f"has a text in {encoding}")
    return octets.decode().replace("\r\n", "\n")


def _typed(text: str) -> tuple[str, dict[str, str]]:
    """A media type or disposition and its parameters; RFC 2231 names put together."""
    kind, _, rest = text.partition(";")
    found: dict[str, str] = {}
    extended: dict[str, str] = {}
    for match in _PARAMETER.finditer(f";{rest}"):
        name, value = match[1].lower(), match[3] if match[3] is not None else match[4]
        if "*" in match[0].partition("=")[0]:
            extended[name] = extended.get(name, "") + value
        else:
            found[name] = re.sub(r"\\(.)", r"\1", value)
    for name, value in extended.items():
        octets = re.sub(rb"%([0-9A-Fa-f]{2})", lambda m: bytes([int(m[1], 16)]), value.encode())
        found[name] = octets.decode().removeprefix("utf-8''")
    return kind.strip().lower(), found
