"""The named statements of callbacks."""

from __future__ import annotations

from outrider.data.sql import load

SQL = load(__package__)
