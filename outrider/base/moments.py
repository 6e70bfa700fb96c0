"""Points in time as callers give them: with an offset, and within what can be stored and counted with.

Owns which moments nobody may give; what one means is said where it is taken.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from outrider.base.errors import Refused

_EARLIEST: Final = datetime(1, 1, 3, tzinfo=UTC)
_LATEST: Final = datetime(9999, 12, 29, tzinfo=UTC)
"""In between every offset, and a day more or less, is a moment that database and programs can hold. The database gives
back the first and the last moment of the calendar as infinite ones, without an offset."""


def moment(given: datetime | None, field: str) -> datetime | None:
    """A moment with its offset.

    Takes:   field as errors name it: `?since` of a query, `/since` of a body.
    Raises:  Refused(offset_required, out_of_range).
    """
    if given is None:
        return None
    if given.tzinfo is None:
        raise Refused("offset_required", "needs an offset, for example 2026-11-20T09:00:00Z", field=field)
    if not _EARLIEST <= given <= _LATEST:
        raise Refused("out_of_range", f"must be from {_EARLIEST.date()} to {_LATEST.date()}", field=field)
    return given
