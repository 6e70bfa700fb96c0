"""The named statements of contacts, of their audience features and of their imports."""

from __future__ import annotations

from outrider.data.sql import load

SQL = load(__package__)
VALIDATE = load(__package__, "validate.sql")
IMPORTS = load(__package__, "imports.sql")
MERGE = load(__package__, "merge.sql")
UNDO = load(__package__, "undo.sql")
MOVING = load(__package__, "moving.sql")
AUDIENCE = load(__package__, "audience.sql")
OFFERS = load(__package__, "offers.sql")
