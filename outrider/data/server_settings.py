"""PostgreSQL's own settings as it shows them, and what their texts say.

Owns reading them; never changes one, never judges one.
"""

from __future__ import annotations

import re
from typing import Final

import asyncpg

_AMOUNT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")
_BYTES: Final = {"B": 1, "kB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}
_SECONDS: Final = {"us": 1e-6, "ms": 1e-3, "s": 1, "min": 60, "h": 3600, "d": 86400}


async def shown(connection: asyncpg.Connection, *names: str) -> dict[str, str]:
    """Settings as this connection sees them, role and database settings included.

    Raises:  asyncpg.UndefinedObjectError for one that the server does not know: forks and hosted ones may lack some.
    """
    return {name: str(await connection.fetchval(f"SHOW {name}")) for name in names}


def bytes_of(text: str, *, unit: str = "MB") -> int:
    """A size as PostgreSQL writes it, such as 256MB; a number alone is in the setting's own unit.

    Raises:  ValueError when it is no size.
    """
    return int(_amount(text, _BYTES, unit))


def seconds_of(text: str, *, unit: str = "s") -> float:
    """A time as PostgreSQL writes it, such as 5min; a number alone is in the setting's own unit.

    Raises:  ValueError when it is no time.
    """
    return _amount(text, _SECONDS, unit)


def _amount(text: str, units: dict[str, int] | dict[str, float], unit: str) -> float:
    match = _AMOUNT.fullmatch(text)
    if match is None or (match[2] or unit) not in units:
        raise ValueError(text)
    return float(match[1]) * units[match[2] or unit]
