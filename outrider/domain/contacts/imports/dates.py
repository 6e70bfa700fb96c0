"""Days as people write them: read only where their order is known, never guessed [C48]. Pure."""

from __future__ import annotations

import re

from outrider.base.errors import Refused
from outrider.domain.contacts.imports.options import Dates

_WRITTEN = re.compile(r"(\d{1,2})[./-](\d{1,2})[./-](\d{4})", re.ASCII)


def read_day(cell: str, order: Dates | None) -> str:
    """A cell as YYYY-MM-DD where it is 1/2/2026, 1.2.2026 or 1-2-2026; anything else as it is.

    Raises:  Refused(ambiguous_date) when nobody said whether day or month comes first.
    """
    written = _WRITTEN.fullmatch(cell)
    if written is None:
        return cell
    if order is None:
        message = "may be read in two ways; write YYYY-MM-DD, or say for the file whether day or month comes first"
        raise Refused("ambiguous_date", message)
    first, second, year = written.groups()
    day, month = (first, second) if order == "day_first" else (second, first)
    return f"{year}-{month:0>2}-{day:0>2}"
