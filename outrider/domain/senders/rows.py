"""The named statements of senders and connections."""

from __future__ import annotations

from outrider.data.sql import load

SQL = load(__package__)
FAILOVER = load(__package__, "failover.sql")
