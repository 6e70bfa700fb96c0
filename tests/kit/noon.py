"""A time zone in which it is about noon: no day ends there while a test runs, whatever the machine's clock says.

API
    noon_zone() -> str               its name
    at_noon(desk) -> Desk            the same tenant, living there
    next_midnight(zone) -> datetime  when the day that is there now ends
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from tests.kit.dispatch import Desk


def noon_zone() -> str:
    """The name of the zone; its hour is 12."""
    shift = 12 - datetime.now(UTC).hour
    return f"Etc/GMT{-shift:+d}" if shift else "UTC"


async def at_noon(desk: Desk) -> Desk:
    """Let a tenant live where it is noon."""
    await desk.post.execute("UPDATE tenants SET timezone = $2 WHERE id = $1", desk.tenant_id, noon_zone())
    return desk


def next_midnight(name: str) -> datetime:
    """The end of the day in a zone."""
    there = ZoneInfo(name)
    return datetime.combine(datetime.now(there).date() + timedelta(days=1), datetime.min.time(), there)
