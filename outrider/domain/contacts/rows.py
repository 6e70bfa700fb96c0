"""The named statements of contacts and of their imports."""

from __future__ import annotations

from outrider.data.sql import load

SQL = load(__package__)
VALIDATE = load(__package__, "validate.sql")
IMPORTS = load(__package__, "imports.sql")
