"""The named statements of campaigns."""

from __future__ import annotations

from outrider.data.sql import load

SQL = load(__package__)
VALIDATE = load(__package__, "validate.sql")
