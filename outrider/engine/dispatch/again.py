"""Making messages again that went out before, as they went out: to ask about them, or to repeat their request."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import asyncpg

from outrider.contracts.channel import Unrenderable
from outrider.contracts.gate import Lane
from outrider.contracts.provider import Outgoing
from outrider.data.db import Role
from outrider.data.runtime import Runtime
from outrider.engine.dispatch.addresses import Addresses
from outrider.engine.dispatch.batch import Claimed
from outrider.engine.dispatch.senders import Senders, Use


def claimed_of(row: asyncpg.Record, message_id: UUID) -> Claimed:
    """A row of the ledger as if it had been claimed; dated as it was at its attempt."""
    return Claimed(
        id=message_id, contact_id=row["contact_id"], content_id=row["content_id"], address=row["address"],
        purpose=row["purpose"], variables=row["variables"], attempt=row["attempts"], dated_at=row["attempted_at"],
        until_s=None,
    )  # fmt: skip


async def made_again(
    runtime: Runtime, senders: Senders, lane: Lane, messages: Sequence[Claimed]
) -> tuple[dict[UUID, Outgoing], Use]:
    """The messages of a lane with the bytes they had, without those that cannot be made any more; and their sender."""
    async with runtime.db.uow(Role.ENGINE, lane.tenant_id) as uow:
        use = await senders.use(uow.raw, lane)
        made = await senders.composers(uow.raw, lane, use, {claimed.content_id for claimed in messages})
    addresses, found = Addresses(runtime), dict[UUID, Outgoing]()
    for claimed in messages:
        composer = made.by_content.get(claimed.content_id)
        if composer is None:
            continue
        (message,) = await composer.compose([addresses.item(lane, composer, claimed, use.sender.identity)])
        if not isinstance(message, Unrenderable):
            found[claimed.id] = message
    return found, use
