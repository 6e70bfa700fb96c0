"""Who does something: the person, key, command or loop that the audit log names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["user", "key", "cli", "system", "recipient"]


@dataclass(frozen=True, slots=True)
class Actor:
    """`name` is what people recognise: an email address, a key's name, `cli:login`, a loop's name."""

    kind: Kind
    name: str
    ip: str | None = None
    reason: str = ""
    """Why, for all that is done here; what a verb is told itself goes before it."""
