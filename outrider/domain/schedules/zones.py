"""Time zones of schedules: names looked up in the IANA list, rules loaded fresh after an update of tzdata.

Owns the version of the rules this process works with; never opens a path that somebody gave.
"""

from __future__ import annotations

import time
import zoneinfo
from datetime import timedelta, timezone, tzinfo
from functools import lru_cache
from importlib import metadata
from pathlib import Path

from outrider.base.errors import Refused

LONGEST = 64
_NOT_FOR_PEOPLE = frozenset({"localtime", "Factory", "posixrules"})
"""In the list on some systems: what the machine happens to be set to, which is no zone anybody could name."""
_FIRST_LINE_BYTES = 64


def check(name: str, *, field: str = "/timezone") -> str:
    """A zone by its IANA name; case matters, old names of the list (Europe/Kiev) are names too.

    Raises:  Refused(unknown_timezone), naming the right spelling when only the case differs.
    Source:  bad inputs R45
    """
    known = names(rules_version())
    if len(name) <= LONGEST and name in known:
        return name
    meant = [each for each in known if each.lower() == name[:LONGEST].lower()]
    hint = f"did you mean {meant[0]}?" if meant else "must be an IANA time zone such as Europe/Berlin or UTC"
    raise Refused("unknown_timezone", hint, field=field)


def load(name: str) -> tzinfo | None:
    """The rules of a zone, or None when the time zone database does not hold it (any more)."""
    if name not in names(rules_version()):
        return None
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return None


def fixed(offset_s: int) -> tzinfo:
    """A zone that never changes: what a schedule goes on with when its zone has left the database."""
    return timezone(timedelta(seconds=offset_s))


@lru_cache(maxsize=2)
def names(version: str) -> frozenset[str]:
    """The names of the list, read once per version of it."""
    del version
    return frozenset(zoneinfo.available_timezones()) - _NOT_FOR_PEOPLE


def rules_version() -> str:
    """The version of the installed rules, such as `2025b`; empty when nobody says it. Later ones sort after.

    Looked up at most once a second.
    """
    return _version(int(time.monotonic()))


@lru_cache(maxsize=1)
def _version(_second: int) -> str:
    for folder in zoneinfo.TZPATH:
        try:
            with (Path(folder) / "tzdata.zi").open("rb") as file:
                words = file.readline(_FIRST_LINE_BYTES).decode("ascii", "replace").split()
        except OSError:
            continue
        if words[:2] == ["#", "version"]:
            return words[-1]
    try:
        release, _, part = metadata.version("tzdata").partition(".")
    except metadata.PackageNotFoundError:
        return ""
    return f"{release}{chr(ord('a') + int(part) - 1)}" if part.isdigit() and int(part) else release


def forget() -> None:
    """Let go of rules read before, after `rules_version` has changed."""
    zoneinfo.ZoneInfo.clear_cache()
    names.cache_clear()
    _version.cache_clear()
