"""The statements of schedules and their runs, loaded."""

from __future__ import annotations

from outrider.data.sql import load

SQL = load(__package__)
