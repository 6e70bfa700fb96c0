"""One person's messages: found page by page through the whole ledger, given to another contact, made anonymous.

Owns what of a message is personal. The ledger has no index by contact: it is walked, in bounded pages, by a job.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from outrider.base.errors import Unavailable
from outrider.data.db import UnitOfWork
from outrider.domain.messages import keyed, poison
from outrider.domain.messages.rows import BOUNCES, PEOPLE, SQL

PAGE = 20_000


@dataclass(frozen=True, slots=True)
class Person:
    """Whose messages: every contact they were, and the SHA-256 of every address they had."""

    contact_ids: list[UUID]
    address_hashes: list[bytes]


@dataclass(frozen=True, slots=True)
class Found:
    """One page of the ledger: where it ended (None: there was nothing more), and the person's messages in it."""

    last: UUID | None
    ids: list[UUID]


async def find(uow: UnitOfWork, person: Person, *, after: UUID) -> Found:
    """A person's messages among the next 20,000 of the ledger."""
    last = await PEOPLE.page_end.value(uow.raw, uow.tenant, after, PAGE)
    if last is None:
        return Found(None, [])
    key = (uow.raw, uow.tenant, after, last, person.contact_ids, person.address_hashes)
    return Found(last, [row["id"] for row in await PEOPLE.ids_of_person.many(*key)])


async def give(uow: UnitOfWork, keep_id: UUID, other_id: UUID, addresses: Sequence[str]) -> None:
    """Make one contact's messages and campaigns another's, as far as its addresses lead to them (engine role)."""
    await PEOPLE.give_messages.run(uow.raw, uow.tenant, keep_id, other_id, list(addresses))
    await PEOPLE.give_recipients.run(uow.raw, uow.tenant, keep_id, other_id)


async def withdraw(uow: UnitOfWork, addresses: Sequence[str]) -> int:
    """Cancel what waits for somebody (engine role); what is being sent ends by itself. Gives how many."""
    rows = await PEOPLE.waiting_of_person.many(uow.raw, uow.tenant, list(addresses))
    return await _cancel(uow, [row["message_id"] for row in rows])


async def blank(uow: UnitOfWork, ids: list[UUID]) -> set[UUID]:
    """Take everything personal from messages (engine role), those that wait are cancelled first.

    Gives:   the contents they had.
    Raises:  Unavailable while one of them is being sent: nothing was changed; try again.
    """
    if not ids:
        return set()
    rows = await PEOPLE.waiting_among.many(uow.raw, uow.tenant, ids)
    await _cancel(uow, [row["message_id"] for row in rows])
    if await PEOPLE.open_among.value(uow.raw, uow.tenant, ids):
        raise Unavailable("being_sent", "a message to this person is being sent at this moment; try again")
    await PEOPLE.blank_recipients.run(uow.raw, uow.tenant, ids)
    await PEOPLE.blank_events.run(uow.raw, uow.tenant, ids)
    await keyed.forget_all(uow.raw, uow.tenant, ids)  # made again, it would not be the same request any more
    # before the lists of those that wait for somebody, as reports and decisions lock
    contents = {row["content_id"] for row in await PEOPLE.blank_messages.many(uow.raw, uow.tenant, ids)}
    await PEOPLE.blank_uncertain.run(uow.raw, uow.tenant, ids)
    await poison.forget(uow.raw, uow.tenant, ids)
    await BOUNCES.soft_bounces_forget.run(uow.raw, uow.tenant, ids)
    return contents


async def blank_chosen(uow: UnitOfWork, contact_ids: Sequence[UUID]) -> None:
    """Take a person's addresses from what says that campaigns were for them, also where no message is left of it."""
    await PEOPLE.blank_chosen.run(uow.raw, uow.tenant, list(contact_ids))


async def only_theirs(uow: UnitOfWork, content_ids: set[UUID]) -> list[UUID]:
    """Those contents that nobody else got."""
    shared = await PEOPLE.contents_of_others.many(uow.raw, uow.tenant, list(content_ids)) if content_ids else []
    return sorted(content_ids - {row["content_id"] for row in shared})


async def _cancel(uow: UnitOfWork, ids: list[UUID]) -> int:
    if ids:
        await SQL.cancel_close.run(uow.raw, uow.tenant, ids, min(ids), max(ids))
    return len(ids)
