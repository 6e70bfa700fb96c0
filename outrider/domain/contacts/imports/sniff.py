"""Recognising what is not a CSV text at all, from the first bytes of a file. Pure."""

from __future__ import annotations

from outrider.base.errors import Refused

SAMPLE_BYTES = 65_536
BOM = b"\xef\xbb\xbf"

_MAGIC: tuple[tuple[bytes, str, str], ...] = (
    (b"\x1f\x8b", "compressed", "is gzip-compressed; unpack it first"),
    (b"PK\x03\x04", "compressed", "is a zip archive or a spreadsheet (xlsx, ods); save it as CSV"),
    (b"PK\x05\x06", "compressed", "is an empty zip archive; save it as CSV"),
    (b"BZh", "compressed", "is bzip2-compressed; unpack it first"),
    (b"\xfd7zXZ\x00", "compressed", "is xz-compressed; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "compressed", "is zstd-compressed; unpack it first"),
    (b"\xd0\xcf\x11\xe0", "not_text", "is an old spreadsheet or document (xls, doc); save it as CSV"),
    (b"\x89PNG", "not_text", "is a PNG image"),
    (b"%PDF", "not_text", "is a PDF document"),
    (b"\x00\x00\xfe\xff", "encoding", "is UTF-32; save it as UTF-8"),
    (b"\xff\xfe", "encoding", "is UTF-16; save it as UTF-8 (in a spreadsheet: CSV UTF-8)"),
    (b"\xfe\xff", "encoding", "is UTF-16; save it as UTF-8 (in a spreadsheet: CSV UTF-8)"),
)
_CONTROL = bytes(set(range(32)) - {9, 10, 13})
_MOST_CONTROL = 0.02


def check_sample(sample: bytes) -> None:
    """Refuse a file by its first 64 kB.

    Raises:  Refused(empty, compressed, not_text, encoding, looks_like_html, bad_header) saying what it is.
    """
    body = sample.removeprefix(BOM)
    if not body.strip():
        raise Refused("empty", "the file is empty", field="file")
    for magic, code, message in _MAGIC:
        if sample.startswith(magic):
            raise Refused(code, f"the file {message}", field="file")
    _check_bytes(body)
    start = body.lstrip()[:200].lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<body")):
        raise Refused("looks_like_html", "the file is a web page, perhaps an error page, not CSV", field="file")
    if start.startswith((b"[", b"{")):
        raise Refused("bad_header", "the file is JSON, not CSV", field="file", line=1)


def _check_bytes(body: bytes) -> None:
    """Binary and UTF-16 without a mark show by their NULs and control bytes."""
    is_even_nul, is_odd_nul = (body[start::2].count(0) > 0 for start in (0, 1))
    if body.count(0) > len(body) // 4 and is_even_nul != is_odd_nul:
        raise Refused("encoding", "the file is UTF-16; save it as UTF-8", field="file")
    control_count = len(body) - len(body.translate(None, _CONTROL))
    if control_count > len(body) * _MOST_CONTROL and not _is_utf8(body):
        raise Refused("not_text", "the file is binary, not text", field="file")


def _is_utf8(body: bytes) -> bool:
    """Whether it is UTF-8; the last character may be cut."""
    try:
        body[:-4].decode()
    except UnicodeDecodeError:
        return False
    return True
