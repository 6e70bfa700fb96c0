"""A conversation with one person: what was sent and what they wrote, newest first."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec

from outrider.base.ids import time_of
from outrider.data.db import UnitOfWork
from outrider.domain.callbacks import look
from outrider.domain.contacts import read
from outrider.domain.messages import search


class Turn(msgspec.Struct, frozen=True):
    """One thing said. Of what was sent: its state; of what they wrote: how it was understood and answered at once."""

    at: datetime
    direction: Literal["sent", "received"]
    id: UUID
    channel: str
    address: str
    state: str = ""
    text: str = ""
    word: str = ""
    is_flagged: bool = False
    reply: str = ""


async def with_contact(uow: UnitOfWork, contact_id: UUID, *, limit: int) -> list[Turn]:
    """The newest turns of a conversation, on every channel (engine role).

    Takes:   limit 1..1000.
    Raises:  Refused(not_found).
    """
    contact = await read.get(uow, contact_id)
    turns: list[Turn] = []
    for address in contact.addresses:
        turns += [
            Turn(each.received_at, "received", each.id, each.channel, each.address, "", each.text, each.word,
                 each.is_flagged, each.reply)
            for each in await look.inbound(uow, limit=limit, address=address.address, channel=address.channel)
        ]  # fmt: skip
        wanted = search.Filter(address=address.address)
        turns += [
            Turn(time_of(row["id"]), "sent", row["id"], row["channel"], row["address"], row["state"])
            for row in await search.find(uow.raw, uow.tenant, wanted, limit=limit)
            if row["channel"] == address.channel
        ]
    return sorted(turns, key=lambda turn: turn.at, reverse=True)[:limit]
