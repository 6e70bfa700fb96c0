"""Numbers a sender sends from: a pool, of which every recipient keeps hearing from the same one.

Owns the pool and who hears from which number. A sender without a pool sends from its own address. Whatever arrives for
a number finds its tenant and sender by the view `sending_numbers`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

import asyncpg
import msgspec

from outrider.base.errors import Refused
from outrider.base.ids import NIL
from outrider.contracts.actor import Actor
from outrider.contracts.channel import Channel, Identity
from outrider.data.db import UnitOfWork
from outrider.domain.audit.append import append
from outrider.domain.contacts.channels import channel_of, stored_form
from outrider.domain.senders.rows import SQL

MOST_NUMBERS = 1_000
"""Numbers of one sender."""


class NumberView(msgspec.Struct, frozen=True):
    """A number of a pool. `recipient_count`: how many people hear from it."""

    id: UUID
    number: str
    sender_id: UUID
    sender: str
    is_active: bool
    recipient_count: int
    created_at: datetime


async def add(
    uow: UnitOfWork, channels: Mapping[str, Channel], actor: Actor, sender_id: UUID, number: str
) -> NumberView:
    """Put a number into a sender's pool.

    Takes:   the number in any form; it must be one that people can answer to, which the provider's account owns.
    Raises:  Refused(not_found; number_taken, 409; not_for_channel; invalid_address).
    """
    sender = await SQL.lock_sender.one(uow.raw, uow.tenant, sender_id)
    if sender is None:
        raise Refused("not_found", "no such sender", field="/sender_id", status=404)
    channel = channel_of(channels, sender["channel"], field="/sender_id")
    if not channel.is_regional:
        raise Refused("not_for_channel", f"a sender of channel {channel.key} has no numbers", field="/sender_id")
    plain = await _number(uow, channel, sender_id, number)
    if await SQL.numbers_of_sender.value(uow.raw, uow.tenant, sender_id) >= MOST_NUMBERS:
        raise Refused("too_many", f"a sender has at most {MOST_NUMBERS} numbers", field="/sender_id")
    made = await SQL.insert_number.value(uow.raw, uow.tenant, plain, sender_id)
    if made is None:
        raise Refused("number_taken", "the number is in a pool already", field="/number", status=409)
    await _audited(uow, actor, "sending_number.add", made, plain)
    return await get(uow, made)


async def change(uow: UnitOfWork, actor: Actor, number_id: UUID, *, is_active: bool) -> NumberView:
    """Take a number out of use, or back into it; people who heard from it hear from another one then.

    Raises:  Refused(not_found).
    """
    if await SQL.change_number.value(uow.raw, uow.tenant, number_id, is_active) is None:
        raise _not_found()
    view = await get(uow, number_id)
    action = "sending_number.use" if is_active else "sending_number.rest"
    await _audited(uow, actor, action, number_id, view.number)
    return view


async def remove(uow: UnitOfWork, actor: Actor, number_id: UUID) -> None:
    """Take a number out of its pool; what arrives for it from then on is an unknown number.

    Raises:  Refused(not_found).
    """
    number = await SQL.delete_number.value(uow.raw, uow.tenant, number_id)
    if number is None:
        raise _not_found()
    await _audited(uow, actor, "sending_number.remove", number_id, number)


async def get(uow: UnitOfWork, number_id: UUID) -> NumberView:
    """One number.

    Raises:  Refused(not_found).
    """
    row = await SQL.number_get.one(uow.raw, uow.tenant, number_id)
    if row is None:
        raise _not_found()
    return NumberView(**dict(row))


async def listed(
    uow: UnitOfWork, *, limit: int, after: UUID | None = None, sender_id: UUID | None = None
) -> list[NumberView]:
    """Numbers in the order they were added, `limit` (1..1000) of those after `after`."""
    rows = await SQL.numbers_page.many(uow.raw, uow.tenant, after or NIL, limit, sender_id)
    return [NumberView(**dict(row)) for row in rows]


async def assign(
    raw: asyncpg.Connection, tenant_id: UUID, sender_id: UUID, pool: Sequence[str], addresses: Sequence[str]
) -> dict[str, str]:
    """The number each recipient hears from: the same as before while it is in use, else one chosen by the address.

    Takes:   pool: the sender's numbers in use, in a fixed order; 1..1000 addresses (engine role).
    Gives:   address -> number; empty without a pool. One statement whatever the count, none for a pool of one.
    """
    if len(pool) <= 1:
        return dict.fromkeys(addresses, pool[0]) if pool else {}
    wanted = sorted(set(addresses))
    rows = await SQL.stick.many(raw, tenant_id, sender_id, wanted, list(pool))
    return {row["address"]: row["number"] for row in rows}


async def _number(uow: UnitOfWork, channel: Channel, sender_id: UUID, number: str) -> str:
    """A number as a sender's own address would have to be, or one typed without its country code."""
    if number.strip().isdigit() and len(number.strip()) <= 8:  # noqa: PLR2004 - a short code
        checked, _ = channel.check_identity(Identity(sender_id, number))
        return checked.from_address
    return await stored_form(uow.raw, uow.tenant, channel, number, field="/number")


async def _audited(uow: UnitOfWork, actor: Actor, action: str, number_id: UUID, number: str) -> None:
    await append(uow, actor, action=action, target=("sending_number", str(number_id)), details={"number": number})


def _not_found() -> Refused:
    return Refused("not_found", "no such number", field="/id", status=404)
