"""Pages of lists: a limit of 1 to 1000 and an opaque cursor that names the last item of the page before."""

from __future__ import annotations

import base64
import binascii
from datetime import MAXYEAR, MINYEAR, datetime
from typing import Annotated, Any, Generic, TypeVar

import msgspec
from litestar.params import QueryParameter

from outrider.base.errors import Refused

T = TypeVar("T")
_LONGEST = 1024
_MOST_BIGINT = 2**63 - 1

Limit = Annotated[int, QueryParameter(ge=1, le=1000, description="Most items of the page.")]
Cursor = Annotated[str, QueryParameter(description="`next_cursor` of the page before; empty for the first.")]


class Page(msgspec.Struct, Generic[T]):
    """One page; `next_cursor` is null on the last one."""

    items: list[T]
    next_cursor: str | None = None


def cursor_of(*parts: Any) -> str:
    """A cursor that `read_cursor` reads: parts are JSON values or UUIDs."""
    return base64.urlsafe_b64encode(msgspec.json.encode(parts)).decode().rstrip("=")


def read_cursor(text: str, kind: Any) -> Any:
    """The parts of a cursor as a tuple type, for example `tuple[str]`; None for the first page.

    Raises:  Refused(invalid_cursor).
    """
    if not text:
        return None
    try:
        raw = (
            b""
            if len(text) > _LONGEST
            else base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        )
        # no column holds NUL: what names one is no cursor of ours
        parts = msgspec.json.decode(b"" if "\0" in "".join(_texts(raw)) else raw, type=kind)
    except (binascii.Error, ValueError, msgspec.DecodeError):
        parts = None
    if parts is None or (isinstance(parts, tuple) and not all(map(_is_storable, parts))):
        raise Refused("invalid_cursor", "is not a cursor of this list", field="?cursor")
    return parts


def _is_storable(part: Any) -> bool:
    """Whether a column may hold a part: one that none can hold is of no row that was ever listed."""
    if isinstance(part, datetime):
        # at the calendar's ends a time zone leads out of it
        return part.tzinfo is not None and MINYEAR < part.year < MAXYEAR
    return not isinstance(part, int) or abs(part) <= _MOST_BIGINT


def _texts(raw: bytes) -> list[str]:
    parts = msgspec.json.decode(raw)
    return [part for part in parts if isinstance(part, str)] if isinstance(parts, list) else []


def page(items: list[T], limit: int, cursor: str) -> Page[T]:
    """A page of items that were read with `limit`; the cursor is given only when there may be more."""
    return Page(items, cursor if len(items) == limit else None)
