"""How a tenant's public pages look: a name, a logo, a colour by day and one by night, a footer.

Owns what may be chosen: colours that can be read on the page, logos that are small pictures. Never holds HTML or CSS of
a tenant; the pages are the interfaces' own.
"""

from __future__ import annotations

import re
import struct
from datetime import datetime
from typing import Final

import msgspec

from outrider.base.errors import Refused
from outrider.contracts.actor import Actor
from outrider.data.db import UnitOfWork
from outrider.domain.audit.append import append
from outrider.domain.tenants.rows import SQL

PAPER, NIGHT = "#ffffff", "#14181d"
"""The grounds of the pages, by day and by night."""
MOST_LOGO_BYTES: Final = 65_536
MOST_LOGO_PIXELS: Final = 1_600
_LEAST_CONTRAST: Final = 4.5
_LONGEST_NAME, _LONGEST_FOOTER = 80, 600
_COLOUR = re.compile(r"#[0-9a-f]{6}\Z")
_UNSUITABLE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufffe\uffff\ud800-\udfff]")
_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_JPEG_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


class Look(msgspec.Struct, frozen=True):
    """A tenant's look. `name` is never empty; colours are empty where the pages' own serve."""

    name: str = ""
    colour: str = ""
    colour_dark: str = ""
    footer: str = ""
    logo: bytes = b""
    logo_type: str = ""


class LookView(msgspec.Struct, frozen=True):
    """A look as people manage it; `display_name` empty: the tenant's name is shown."""

    display_name: str
    colour: str
    colour_dark: str
    footer: str
    has_logo: bool
    logo_bytes: int
    changed_by: str | None
    changed_at: datetime | None


class LookChange(msgspec.Struct, forbid_unknown_fields=True):
    """What shall be different; what is not named stays, an empty text goes back to the pages' own."""

    display_name: str | None = None
    colour: str | None = None
    colour_dark: str | None = None
    footer: str | None = None


async def of(uow: UnitOfWork) -> Look:
    """The look of the unit of work's tenant; the plain one without a tenant's own."""
    row = await SQL.look_get.one(uow.raw, uow.tenant)
    if row is None:
        return Look()
    return Look(
        row["display_name"] or row["name"],
        row["colour"] or "",
        row["colour_dark"] or "",
        row["footer"] or "",
        row["logo"] or b"",
        row["logo_type"] or "",
    )


async def get(uow: UnitOfWork) -> LookView:
    """The look as it was chosen.

    Raises:  Refused(not_found) without such a tenant.
    """
    row = await SQL.look_get.one(uow.raw, uow.tenant)
    if row is None:
        raise Refused("not_found", "no such tenant", status=404)
    size = len(row["logo"] or b"")
    return LookView(
        display_name=row["display_name"] or "",
        colour=row["colour"] or "",
        colour_dark=row["colour_dark"] or "",
        footer=row["footer"] or "",
        has_logo=size > 0,
        logo_bytes=size,
        changed_by=row["changed_by"],
        changed_at=row["changed_at"],
    )


async def change(uow: UnitOfWork, actor: Actor, change: LookChange, *, reason: str = "not given") -> LookView:
    """Change what is given.

    Raises:  Refused(invalid_colour, low_contrast, field_too_long, control_character) naming the field.
    """
    before = await get(uow)
    name = before.display_name if change.display_name is None else _line(change.display_name)
    colour = before.colour if change.colour is None else _colour(change.colour, PAPER, "/colour")
    dark = before.colour_dark if change.colour_dark is None else _colour(change.colour_dark, NIGHT, "/colour_dark")
    footer = before.footer if change.footer is None else _footer(change.footer)
    await SQL.look_keep.run(uow.raw, uow.tenant, name, colour, dark, footer, actor.name)
    told = [field for field in change.__struct_fields__ if getattr(change, field) is not None]
    target = ("tenant", str(uow.tenant))
    await append(uow, actor, action="look.change", target=target, reason=reason, details={"fields": told})
    return await get(uow)


async def set_logo(uow: UnitOfWork, actor: Actor, picture: bytes | None, *, reason: str = "not given") -> LookView:
    """Show a picture above every public page, or none.

    Raises:  Refused(too_large, invalid_logo).
    """
    kind = None if picture is None else _kind_of(picture)
    await SQL.look_logo.run(uow.raw, uow.tenant, picture, kind, actor.name)
    details = {"logo_bytes": len(picture or b""), "kind": kind}
    target = ("tenant", str(uow.tenant))
    await append(uow, actor, action="look.logo", target=target, reason=reason, details=details)
    return await get(uow)


def contrast(one: str, other: str) -> float:
    """How well one colour is read on another, 1 to 21.

    Takes:   #rrggbb
    Source:  WCAG 2.2, relative luminance
    """
    bright, dim = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


def _luminance(colour: str) -> float:
    total = 0.0
    for at, weight in ((1, 0.2126), (3, 0.7152), (5, 0.0722)):
        part = int(colour[at : at + 2], 16) / 255
        total += weight * (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4)  # noqa: PLR2004 - the standard's
    return total


def _colour(text: str, ground: str, field: str) -> str:
    plain = text.strip().lower()
    if not plain:
        return ""
    if not _COLOUR.match(plain):
        raise Refused("invalid_colour", "must be six hexadecimal digits after a #, such as #1a56c4", field=field)
    ratio = contrast(plain, ground)
    if ratio < _LEAST_CONTRAST:
        what = "darker" if ground == PAPER else "lighter"
        raise Refused(
            "low_contrast",
            f"has a contrast of {ratio:.1f} on {ground}, {_LEAST_CONTRAST} is needed to be read: choose a {what} one",
            field=field,
        )
    return plain


def _line(text: str) -> str:
    plain = text.strip()
    if len(plain) > _LONGEST_NAME:
        raise Refused("field_too_long", f"must have at most {_LONGEST_NAME} characters", field="/display_name")
    if "\n" in plain or _UNSUITABLE.search(plain):
        raise Refused("control_character", "must be one line without control characters", field="/display_name")
    return plain


def _footer(text: str) -> str:
    plain = text.replace("\r\n", "\n").strip()
    if len(plain) > _LONGEST_FOOTER:
        raise Refused("field_too_long", f"must have at most {_LONGEST_FOOTER} characters", field="/footer")
    if _UNSUITABLE.search(plain):
        raise Refused("control_character", "must not contain control characters", field="/footer")
    return plain


def _kind_of(picture: bytes) -> str:
    """The media type of a picture, by its own bytes; never by what somebody calls it."""
    if len(picture) > MOST_LOGO_BYTES:
        raise Refused("too_large", f"a logo has at most {MOST_LOGO_BYTES:,} bytes", field="/", status=413)
    kind, size = "", (0, 0)
    if picture.startswith(_PNG) and picture[12:16] == b"IHDR" and len(picture) > 32:  # noqa: PLR2004 - header of a PNG
        kind, size = "image/png", struct.unpack(">II", picture[16:24])
    elif picture.startswith(_JPEG):
        kind, size = "image/jpeg", _jpeg_size(picture)
    if not kind or not all(1 <= each <= MOST_LOGO_PIXELS for each in size):
        detail = f"must be a PNG or JPEG picture of at most {MOST_LOGO_PIXELS} x {MOST_LOGO_PIXELS} pixels"
        raise Refused("invalid_logo", detail, field="/")
    return kind


def _jpeg_size(picture: bytes) -> tuple[int, int]:
    """Width and height out of the frame header; (0, 0) when there is none."""
    at = 2
    while at + 9 < len(picture) and picture[at] == 0xFF:  # noqa: PLR2004 - every marker begins with it
        marker, length = picture[at + 1], int.from_bytes(picture[at + 2 : at + 4], "big")
        if marker in _JPEG_SIZES:
            height, width = struct.unpack(">HH", picture[at + 5 : at + 9])
            return width, height
        at += 2 + max(length, 2)
    return 0, 0
