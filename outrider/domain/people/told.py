"""What else there is about a person, for their export: what they wrote, filled in and followed, what imports changed.

Owns the sections behind the messages, each read page by page; what erasing a person deletes of them stands in the same
folders as the statements that read it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import orjson

from outrider.base.ids import NIL
from outrider.data.db import Database, Role, UnitOfWork
from outrider.domain.callbacks.rows import SQL as CALLBACKS
from outrider.domain.contacts.rows import IMPORTS
from outrider.domain.senders.rows import SQL as SENDERS
from outrider.domain.signup.rows import SQL as SIGNUPS
from outrider.domain.tracking.judge import CLICK, OPEN
from outrider.domain.tracking.rows import SQL as TRACKING

PAGE = 200
_KINDS: Final = {OPEN: "opened", CLICK: "clicked"}


@dataclass(frozen=True, slots=True)
class Whose:
    """Every contact a person was, and every address they have: with its channel and its SHA-256, in the same order."""

    contact_ids: list[UUID]
    channels: list[str]
    addresses: list[str]
    hashes: list[bytes]


@dataclass(frozen=True, slots=True)
class Page:
    """Rows of a section, and where the next page goes on (None: there is no other)."""

    rows: list[dict[str, Any]]
    after: tuple[Any, ...] | None


ReadPage = Callable[[UnitOfWork, Whose, tuple[Any, ...]], Awaitable[Page]]


async def each(db: Database, tenant_id: UUID, whose: Whose, read_page: ReadPage) -> AsyncIterator[dict[str, Any]]:
    """Every row of a section, a transaction per page."""
    after: tuple[Any, ...] | None = ()
    while after is not None:
        async with db.uow(Role.ENGINE, tenant_id) as uow:
            page = await read_page(uow, whose, after)
        for row in page.rows:
            yield row
        after = page.after


async def responses(uow: UnitOfWork, message_ids: list[UUID]) -> dict[UUID, list[dict[str, Any]]]:
    """By message, who opened it and which links they followed; at most 1,000 of each."""
    found: dict[UUID, list[dict[str, Any]]] = defaultdict(list)
    for row in await TRACKING.responses_of_messages.many(uow.raw, uow.tenant, message_ids):
        facts = dict(row)
        found[facts.pop("message_id")].append(facts | {"kind": _KINDS.get(row["kind"], str(row["kind"]))})
    return found


async def _inbound(uow: UnitOfWork, whose: Whose, after: tuple[Any, ...]) -> Page:
    key = (whose.contact_ids, whose.channels, whose.addresses, *(after or (NIL,)))
    return _page(await CALLBACKS.inbound_of_person.many(uow.raw, uow.tenant, *key, PAGE), "id")


async def _signups(uow: UnitOfWork, whose: Whose, after: tuple[Any, ...]) -> Page:
    key = (whose.hashes, *(after or (NIL,)))
    return _page(await SIGNUPS.signups_of_person.many(uow.raw, uow.tenant, *key, PAGE), "id")


async def _changes(uow: UnitOfWork, whose: Whose, after: tuple[Any, ...]) -> Page:
    key = (whose.contact_ids, whose.addresses, *(after or (NIL, NIL)))
    return _page(await IMPORTS.changes_of_person.many(uow.raw, uow.tenant, *key, PAGE), "import_id", "contact_id")


async def _numbers(uow: UnitOfWork, whose: Whose, after: tuple[Any, ...]) -> Page:
    key = (whose.addresses, *(after or (NIL, "")))
    return _page(await SENDERS.numbers_of_person.many(uow.raw, uow.tenant, *key, PAGE), "sender_id", "address")


SECTIONS: Final[dict[str, ReadPage]] = {
    "messages_received": _inbound,
    "forms_filled_in": _signups,
    "changed_by_imports": _changes,
    "numbers_heard_from": _numbers,
}
"""Name in the file -> what reads it."""

_JSON: Final = ("list_ids", "before", "after", "reasons")


def _page(rows: list[Any], *key: str) -> Page:
    """Rows with their JSON read, and the key of the last one while there may be more."""
    whole = [
        {name: orjson.loads(value) if name in _JSON and value else value for name, value in dict(row).items()}
        for row in rows
    ]
    return Page(whole, tuple(rows[-1][name] for name in key) if len(rows) == PAGE else None)
