"""Which country a telephone number belongs to, and in which time zones it may be.

Owns the area codes of North America that lie in two zones: the library knows the one in which most of their people
live. Never says whether a number is valid or can be reached, nor where its phone is now.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import phonenumbers
from phonenumbers.timezone import UNKNOWN_TIMEZONE, time_zones_for_number

_WORLD = "001"
_EASTERN, _CENTRAL, _MOUNTAIN, _PACIFIC = "America/New_York", "America/Chicago", "America/Denver", "America/Los_Angeles"
_PARTED: Final[dict[str, tuple[str, str]]] = {
    **dict.fromkeys(("219", "574", "812", "930"), (_EASTERN, _CENTRAL)),  # Indiana
    **dict.fromkeys(("448", "850"), (_EASTERN, _CENTRAL)),  # Florida
    **dict.fromkeys(("270", "364"), (_EASTERN, _CENTRAL)),  # Kentucky
    **dict.fromkeys(("423", "931"), (_EASTERN, _CENTRAL)),  # Tennessee
    "906": (_EASTERN, _CENTRAL),  # Michigan
    **dict.fromkeys(("308", "605", "620", "701", "785"), (_CENTRAL, _MOUNTAIN)),  # Nebraska, the Dakotas, Kansas
    "432": (_CENTRAL, _MOUNTAIN),  # Texas
    **dict.fromkeys(("208", "458", "541", "775", "986"), (_MOUNTAIN, _PACIFIC)),  # Idaho, Oregon, Nevada
}
_NORTH_AMERICA: Final = "+1"


@lru_cache(maxsize=65536)
def country_of(number: str) -> str:
    """The ISO 3166 country of a number in E.164 form; empty when it belongs to none (satellites, nonsense)."""
    if not number.startswith("+"):
        return ""
    try:
        region = phonenumbers.region_code_for_number(phonenumbers.parse(number, None))
    except phonenumbers.NumberParseException:
        return ""
    return "" if region is None or region == _WORLD else region


@lru_cache(maxsize=65536)
def zones_of(number: str) -> tuple[str, ...]:
    """The IANA zones of a number in E.164 form: of its area code, else of its country; none when nobody can say."""
    if not number.startswith("+"):
        return ()
    try:
        found = time_zones_for_number(phonenumbers.parse(number, None))
    except phonenumbers.NumberParseException:
        return ()
    known = tuple(zone for zone in found if zone != UNKNOWN_TIMEZONE)
    more = _PARTED.get(number[2:5], ()) if number.startswith(_NORTH_AMERICA) and known else ()
    return tuple(dict.fromkeys((*known, *more)))
