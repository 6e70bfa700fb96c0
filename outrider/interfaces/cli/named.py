"""Finding what a person named: by its id, or by its exact name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar
from uuid import UUID

from outrider.base.errors import Refused
from outrider.base.ids import parse_id
from outrider.data.db import UnitOfWork
from outrider.domain.contacts import read
from outrider.domain.contacts.views import ContactView
from outrider.interfaces.cli.addressed import channel_of, is_phone
from outrider.interfaces.cli.plugged import channels

_PAGE: Final = 1000
Thing = TypeVar("Thing")


async def find(
    text: str, kind: str, page: Callable[[UUID | None, int], Awaitable[Sequence[Thing]]], *, field: str
) -> Thing:
    """The one thing with this id or exact name.

    Takes:   page: gives up to so many things beyond the last one seen, each with `id` and `name`.
    Raises:  Refused(not_found, 404).
    """
    last: UUID | None = None
    while True:
        things = await page(last, _PAGE)
        for thing in things:
            each: Any = thing
            if text in (each.name, str(each.id)):
                return thing
        if len(things) < _PAGE:
            raise Refused("not_found", f"no {kind} named {text[:100]!r}", field=field, status=404)
        tail: Any = things[-1]
        last = tail.id


async def contact(uow: UnitOfWork, who: str, channel: str | None, *, field: str = "who") -> ContactView:
    """A contact by an address of a channel, in any form, or by its id.

    Raises:  Refused(not_found, 404).
    """
    if "@" not in who and not is_phone(who):
        return await read.get(uow, parse_id(who, field))
    found = await read.by_address(uow, channels(), channel_of(who, channel), who)
    if found is None:
        raise Refused("not_found", "nobody has this address", field=field, status=404)
    return found
