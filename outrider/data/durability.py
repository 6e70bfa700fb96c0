"""The durability a database must offer before Outrider writes to it: an acknowledged commit survives a crash.

Owns the three settings and their refusal; never changes a setting, never decides where the database is.
"""

from __future__ import annotations

import asyncpg

from outrider.base.errors import Misconfigured
from outrider.data.server_settings import shown

SAFE_SETTINGS = ("fsync", "full_page_writes", "synchronous_commit")
"""What a crash of the server or of the machine is survived by; each must be on, whoever runs the server."""

_CONSEQUENCES = {
    "fsync": "a crash of the machine can destroy the whole database",
    "full_page_writes": "a page half written in a crash cannot be repaired",
    "synchronous_commit": "messages already acknowledged can be lost, and those already sent can be sent again",
}


def unsafe_reason(name: str, value: str) -> str | None:
    """Say why a value of one of the three settings is not safe, or None when it is.

    Takes:   the value as the server prints it. `synchronous_commit` has levels: all but `off` wait for the local disk.
    """
    is_safe = (
        value in {"on", "local", "remote_write", "remote_apply"} if name == "synchronous_commit" else value == "on"
    )
    return None if is_safe else f"{name} is {value}: {_CONSEQUENCES[name]}"


async def refuse_unsafe(connection: asyncpg.Connection) -> None:
    """Refuse a server that may forget what it has acknowledged.

    Takes:   a connection as the product's login role: role and database settings count as well as the server's own.
    Raises:  Misconfigured(unsafe_durability) naming every one of the three settings that is off, as `data["settings"]`.
    """
    found = await shown(connection, *SAFE_SETTINGS)
    reasons = [reason for name, value in found.items() if (reason := unsafe_reason(name, value))]
    if reasons:
        raise Misconfigured(
            "unsafe_durability",
            f"the database can lose acknowledged work: {'; '.join(reasons)}. Set each to on (postgresql.conf, ALTER "
            "SYSTEM, ALTER DATABASE and ALTER ROLE are the places) and start again",
            field="OUTRIDER_DATABASE_URL",
            settings={name: value for name, value in found.items() if unsafe_reason(name, value)},
        )
