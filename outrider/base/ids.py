"""Identifiers: UUIDs only. New ones are minted by the database (UUIDv7 on its clock), never here."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from outrider.base.errors import Refused

NIL = UUID(int=0)
"""The tenant id of what belongs to the installation: its switches, its suppressions, its audit chain."""

DEFAULT_TENANT = UUID("00000000-0000-0000-0000-000000000001")
"""The tenant a fresh installation starts with [S1-01]."""

NEWEST_ID = UUID(int=2**128 - 1)
"""Greater than every id: where a walk from the newest begins."""

_LONGEST_ID = 64
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse_id(text: str, field: str, *, status: int = 404) -> UUID:
    """Read a UUID given by a person.

    Takes:   any text; upper case, braces and `urn:uuid:` are accepted and made canonical.
    Raises:  Refused(not_found) by default, because an id that cannot exist is an id that does not exist.
    """
    if len(text) <= _LONGEST_ID and text.isascii():
        try:
            return UUID(text)
        except ValueError:
            pass
    raise Refused("not_found", f"no such id: {text[:_LONGEST_ID]!r}", field=field, status=status)


def first_id_at(moment: datetime) -> UUID:
    """The smallest UUIDv7 of a millisecond: the lower bound of a partition or of a search by time (UTC)."""
    milliseconds = (moment - _EPOCH) // timedelta(milliseconds=1)
    return UUID(int=(milliseconds << 80) | (0x7 << 76) | (0x2 << 62))


def time_of(identifier: UUID) -> datetime:
    """When a UUIDv7 was minted (UTC, milliseconds)."""
    return _EPOCH + timedelta(milliseconds=identifier.int >> 80)
