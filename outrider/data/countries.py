"""Which country a telephone number belongs to.

Owns nothing; never says whether a number is valid or can be reached.
"""

from __future__ import annotations

from functools import lru_cache

import phonenumbers

_WORLD = "001"


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
