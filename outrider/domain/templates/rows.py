"""The named statements of templates and contents."""

from __future__ import annotations

from outrider.data.sql import load

SQL = load(__package__)
