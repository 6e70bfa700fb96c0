"""The named statements of campaigns."""

from __future__ import annotations

from outrider.data.sql import load

SQL = load(__package__)
DELIVERY = load(__package__, "delivery.sql")
BRAKES = load(__package__, "brakes.sql")
VALIDATE = load(__package__, "validate.sql")
