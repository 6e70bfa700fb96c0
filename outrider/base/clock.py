"""Clocks. Decisions use the database's time; these serve timeouts and leases within one process."""

from __future__ import annotations

import time
from datetime import UTC, datetime


def boottime_s() -> float:
    """Seconds since boot, suspended time included, so that a stopped machine sees its leases end."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def utc_now() -> datetime:
    """The wall clock in UTC; for display and log lines, never for a decision about sending."""
    return datetime.now(UTC)
