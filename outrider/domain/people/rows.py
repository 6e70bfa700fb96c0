"""The named statements of exports and erasures."""

from __future__ import annotations

from outrider.data.sql import load

SQL = load(__package__)
EXPORTS = load(__package__, "exports.sql")
