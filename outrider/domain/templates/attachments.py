"""Files that go with a message: their names, types and sizes [H71, H72].

Owns what a name may be; never opens, converts or executes a file, and never uses a name as a path.
"""

from __future__ import annotations

import binascii
import re
import unicodedata
from collections.abc import Sequence

from outrider.base.errors import Refused
from outrider.contracts.channel import Attachment

MOST_BYTES = 25_000_000
"""All files of one message together, before base64."""

MOST_FILES = 20
_LONGEST_NAME = 200
_DEVICES = re.compile(r"^(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?$", re.IGNORECASE)
_TYPE = re.compile(r"^[a-z0-9][a-z0-9!#$&^_.+-]{0,62}/[a-z0-9][a-z0-9!#$&^_.+-]{0,62}$")
_FORBIDDEN_CHARACTERS = '<>:"/\\|?*'
_BAD_CATEGORIES = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
"""Control, format (bidirectional overrides among them), surrogate, private, unassigned, line separators."""


def decode(name: str, content_type: str, content_base64: str, *, field: str) -> Attachment:
    """A file as it comes in JSON: strict base64 without line breaks.

    Raises:  Refused naming the field below `field` (`attachments.0` …).
    """
    if len(content_base64) > MOST_BYTES * 4 // 3 + 4:
        raise Refused("too_large", f"files of more than {MOST_BYTES} bytes cannot be sent", field=field, status=413)
    content = _strict(content_base64)
    if content is None:
        raise Refused(
            "invalid_base64", "is not base64 (standard alphabet, padded, no line breaks)", field=f"{field}/content"
        )
    return Attachment(check_name(name, field=f"{field}/name"), check_type(content_type, field=field), content)


def _strict(text: str) -> bytes | None:
    """What base64 text says; None for text that only some readers would understand."""
    try:
        return None if len(text) % 4 else binascii.a2b_base64(text, strict_mode=True)
    except (binascii.Error, ValueError):
        return None


def check_name(name: str, *, field: str) -> str:
    """A file name that is the same on every system: NFC, one path component, no device, nothing invisible."""
    plain = unicodedata.normalize("NFC", name)
    if not plain or len(plain.encode(errors="replace")) > _LONGEST_NAME:
        raise Refused("invalid_name", f"must have 1 to {_LONGEST_NAME} bytes in UTF-8", field=field)
    if any(c in _FORBIDDEN_CHARACTERS or unicodedata.category(c) in _BAD_CATEGORIES for c in plain):
        raise Refused(
            "invalid_name", "must not contain path separators, control characters or invisible marks", field=field
        )
    if plain != plain.strip(" .") or _DEVICES.match(plain):
        raise Refused("invalid_name", "must not begin or end with a dot or space or name a device", field=field)
    return plain


def check_type(content_type: str, *, field: str) -> str:
    """A bare media type. Containers (multipart, message) are refused: they would hide parts from every check."""
    plain = content_type.strip().lower()
    if not _TYPE.match(plain) or plain.startswith(("multipart/", "message/")):
        raise Refused("invalid_type", "must be a media type like application/pdf", field=f"{field}/content_type")
    return plain


def check_total(attachments: Sequence[Attachment]) -> None:
    """The limits of a message as a whole."""
    if len(attachments) > MOST_FILES:
        raise Refused("too_many_files", f"has {len(attachments)} files, at most {MOST_FILES}", field="attachments")
    total = sum(len(attachment.content) for attachment in attachments)
    if total > MOST_BYTES:
        raise Refused(
            "too_large", f"files have {total} bytes together, at most {MOST_BYTES}", field="attachments", status=413
        )
