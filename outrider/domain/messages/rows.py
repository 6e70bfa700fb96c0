"""The named statements of messages; the verbs of this folder run them."""

from __future__ import annotations

from outrider.data.sql import load

SQL = load(__package__)
CHECKS = load(__package__, "validate.sql")
FEED = load(__package__, "feed.sql")
PEOPLE = load(__package__, "people.sql")
HOLDS = load(__package__, "holds.sql")
BOUNCES = load(__package__, "bounces.sql")
KEYED = load(__package__, "keyed.sql")
QUOTA = load(__package__, "quota.sql")
POISON = load(__package__, "poison.sql")
