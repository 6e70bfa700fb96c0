"""The statements of jobs, loaded."""

from __future__ import annotations

from outrider.data.sql import load

SQL = load(__package__)
RUNS = load(__package__, "runs.sql")
"""What running processes say and ask; the engine role's."""
