"""The named statements of segments, and the rules they are joined from."""

from __future__ import annotations

from outrider.data.sql import Statement, load

SQL = load(__package__)
RULES = load(__package__, "rules.sql")
HEAD = RULES.anybody.sql.removesuffix("true")
"""What every rule begins with; what stands behind it is the condition."""

__all__ = ["HEAD", "RULES", "SQL", "Statement"]
