"""The statements of tenants, users, sessions and keys, loaded."""

from __future__ import annotations

from outrider.data.sql import load

SQL = load(__package__)
