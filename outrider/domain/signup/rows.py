"""The named statements of forms and sign-ups."""

from __future__ import annotations

from outrider.data.sql import load

SQL = load(__package__)
