"""Public holidays by country and subdivision, from a library that is kept; nobody who uses no calendar loads it.

Owns the codes people write (`DE`, `DE-BY`) and the memory of years looked up. Never says what a holiday means.

Source:  ISO 3166-1 and 3166-2; the package `holidays` (MIT)
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import cache, lru_cache
from importlib import import_module
from typing import Any


@dataclass(frozen=True, slots=True)
class Calendar:
    """The public holidays of places, those of each of them; days moved to a working day count as well."""

    places: tuple[str, ...]

    def name_of(self, day: date) -> str | None:
        """What a day is a holiday for; None for any other."""
        for place in self.places:
            name = _days(place, day.year).get(day)
            if name is not None:
                return f"{name} ({place})"
        return None


def problem_of(place: str) -> str | None:
    """Why a place has no calendar; None when it has one."""
    country, _, subdivision = place.partition("-")
    known = _known().get(country)
    if known is None:
        return f"no calendar for {country}: must be an ISO 3166 country such as DE, or a part of one such as DE-BY"
    if subdivision and subdivision not in known:
        return f"no calendar for {place}; parts of {country}: {', '.join(sorted(known)) or 'none'}"
    return None


@lru_cache(maxsize=512)
def _days(place: str, year: int) -> dict[date, str]:
    """The holidays of a year. A place that the library has lost since it was set has none."""
    country, _, subdivision = place.partition("-")
    if problem_of(place) is not None:
        return {}
    return dict(_library().country_holidays(country, subdiv=subdivision or None, years=year, language="en_US"))


@cache
def _known() -> dict[str, frozenset[str]]:
    listed: dict[str, list[str]] = _library().list_supported_countries(include_aliases=False)
    return {country: frozenset(parts) for country, parts in listed.items()}


def _library() -> Any:
    """The library, imported when it is first needed: it takes a good tenth of a second."""
    return import_module("holidays")
