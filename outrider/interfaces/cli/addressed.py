"""Which channel an address belongs to when nobody says so: told by how it looks.

Owns the guess; reading an address is the channel's own business.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated
from uuid import UUID

from cyclopts import Parameter

from outrider.interfaces.cli.plugged import channels

AnyChannel = Annotated[
    str | None,
    Parameter(name="--channel", help="Which channel the address belongs to; told by the address itself unless given."),
]
_PHONE = frozenset("+0123456789 ()-./")
_EMAIL, _SMS = "email", "sms"


def channel_of(address: str, given: str | None) -> str:
    """The channel named, else sms for what looks like a telephone number, else email."""
    if given is not None:
        return given
    return _SMS if is_phone(address) and _SMS in channels() else _EMAIL


def is_phone(text: str) -> bool:
    """Whether something looks like a telephone number, and not like an id of digits."""
    with suppress(ValueError):
        UUID(text)
        return False
    return any(each.isdigit() for each in text) and _PHONE.issuperset(text.strip())
