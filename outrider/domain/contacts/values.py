"""What the fields of a contact may hold: one set of rules for API, import and command line. Pure.

Owns the checks of name, external id, time zone, locale, attributes and purposes. Addresses are the channel's business.
"""

from __future__ import annotations

import math
import re
from functools import cache
from typing import Any
from zoneinfo import available_timezones

import orjson

from outrider.base.errors import Refused

LONGEST_NAME = 200
LONGEST_EXTERNAL_ID = 200
MOST_ATTRIBUTES = 200
DEEPEST = 5
MOST_ATTRIBUTE_BYTES = 16_384
_LONGEST_TEXT = 10_000
_SAFE_INTEGER = 2**53
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ufffe\uffff\ud800-\udfff]")
_UNUSUAL_LINE_ENDS = {0x85: " ", 0x2028: " ", 0x2029: " "}
_CONTROL_BUT_LINES = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufffe\uffff\ud800-\udfff]")
_LOCALE = re.compile(r"^[A-Za-z]{2,3}(?:[-_](?:[A-Za-z]{4}|[A-Za-z]{2}|[0-9]{3}))*\Z")
_KEY = re.compile(r"^[a-z][a-z0-9_]{0,62}\Z")
_PURPOSE = re.compile(r"^[a-z][a-z0-9_-]{0,39}\Z")


def check_name(name: str, *, field: str = "/name") -> str:
    """A person's name as it is stored and sent: one line, nothing a mail header would decode [C39].

    Markup, formulas and braces are plain text to us and stay [C33, C36, C37].
    """
    plain = name.translate(_UNUSUAL_LINE_ENDS).strip()
    if len(plain) > LONGEST_NAME:
        raise Refused("field_too_long", f"must have at most {LONGEST_NAME} characters", field=field)
    if _CONTROL.search(plain):
        raise Refused("control_character", "must be one line without control characters", field=field)
    if "=?" in plain:
        raise Refused("encoded_word", "must not contain '=?': mail programs would decode it", field=field)
    return plain


def check_label(name: str, *, field: str = "/name") -> str:
    """The name of a list, template, sender …: as a person's, but there must be one."""
    plain = check_name(name, field=field)
    if not plain:
        raise Refused("required", "a name is required", field=field)
    return plain


def check_external_id(external_id: str | None, *, field: str = "/external_id") -> str | None:
    """Another system's id of the contact; empty means none."""
    plain = (external_id or "").strip()
    if len(plain) > LONGEST_EXTERNAL_ID:
        raise Refused("field_too_long", f"must have at most {LONGEST_EXTERNAL_ID} characters", field=field)
    if _CONTROL.search(plain):
        raise Refused("control_character", "must be one line without control characters", field=field)
    return plain or None


def check_timezone(timezone: str | None, *, field: str = "/timezone") -> str | None:
    """A name of the IANA time zone database, looked up in its list and never as a path [H59]; empty means none."""
    plain = (timezone or "").strip()
    if plain and plain not in _zones():
        raise Refused("unknown_timezone", "must be a name like Europe/Berlin", field=field)
    return plain or None


def check_locale(locale: str | None, *, field: str = "/locale") -> str | None:
    """A language tag (RFC 5646: language, script, region) with hyphens; empty means none."""
    plain = (locale or "").strip()
    if not plain:
        return None
    if not _LOCALE.match(plain):
        raise Refused("unknown_locale", "must be a language tag like de or pt-BR", field=field)
    return plain.replace("_", "-")


def check_purpose(purpose: str, *, field: str = "/purpose") -> str:
    """What consent is for, as one word such as `marketing` or `news`."""
    if not _PURPOSE.match(purpose):
        raise Refused("invalid_purpose", "must be a word of at most 40 of a-z, 0-9, - and _", field=field)
    return purpose


def check_attributes(attributes: dict[str, Any], *, field: str = "/attributes") -> dict[str, Any]:
    """Merge data of a contact: a JSON object that templates and the database can hold as it is [C53, T57, T58].

    Raises:  Refused naming the member by its pointer.
    """
    if len(attributes) > MOST_ATTRIBUTES:
        raise Refused("too_large", f"must have at most {MOST_ATTRIBUTES} members", field=field)
    for key, value in attributes.items():
        if not _KEY.match(key):
            raise Refused(
                "invalid_key", f"{key[:80]!r}: a key has lower-case letters, digits and _, a letter first", field=field
            )
        _check_value(value, f"{field}/{key}", depth=2)
    if len(orjson.dumps(attributes)) > MOST_ATTRIBUTE_BYTES:
        raise Refused("too_large", f"must have at most {MOST_ATTRIBUTE_BYTES} bytes as JSON", field=field)
    return attributes


def check_attribute_text(value: str, *, field: str) -> str:
    """One text among the attributes; line ends are allowed, other control characters are not."""
    if len(value) > _LONGEST_TEXT:
        raise Refused("field_too_long", f"must have at most {_LONGEST_TEXT} characters", field=field)
    if _CONTROL_BUT_LINES.search(value):
        raise Refused("control_character", "must not contain control characters", field=field)
    return value


def _check_value(value: Any, field: str, *, depth: int) -> None:
    """Walk down; the depth is checked before anything deeper is touched."""
    if depth > DEEPEST + 1:
        raise Refused("too_deep", f"must be nested at most {DEEPEST} levels", field=field)
    match value:
        case str():
            check_attribute_text(value, field=field)
        case dict():
            for key, member in value.items():
                check_attribute_text(key, field=field)
                _check_value(member, f"{field}/{key}", depth=depth + 1)
        case list():
            for position, member in enumerate(value):
                _check_value(member, f"{field}/{position}", depth=depth + 1)
        case None | bool():
            return
        case int() | float():
            check_number(value, field)
        case _:
            raise Refused("invalid_value", "must be JSON", field=field)


def check_number(value: float, field: str) -> float:
    """A number that JSON and the database hold exactly as it is.

    Raises:  Refused(invalid_number).
    """
    if not math.isfinite(value):
        raise Refused("invalid_number", "must be a finite number", field=field)
    if isinstance(value, int) and abs(value) > _SAFE_INTEGER:
        raise Refused("invalid_number", "must lie between -2^53 and 2^53; send it as text", field=field)
    return value


@cache
def _zones() -> frozenset[str]:
    """The known zones; names of files that are none (posixrules, Factory) are left out."""
    return frozenset(available_timezones() - {"Factory", "localtime"})
