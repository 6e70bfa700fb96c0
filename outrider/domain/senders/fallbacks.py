"""Fallbacks: the connections that take over, in their order, when a sender's own cannot be reached.

Owns the list; only what is known not to have left by one connection is tried by the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import msgspec

from outrider.base.errors import Refused
from outrider.contracts.actor import Actor
from outrider.data.db import UnitOfWork
from outrider.domain.audit.append import append
from outrider.domain.senders import connections, senders
from outrider.domain.senders.connections import Vault
from outrider.domain.senders.rows import FAILOVER

MOST = 5


class FallbacksView(msgspec.Struct, frozen=True):
    """The sender's own connection, and those that take over, first one first."""

    connection_id: UUID
    fallback_ids: list[UUID]


async def get(uow: UnitOfWork, sender_id: UUID) -> FallbacksView:
    """Which connections a sender has.

    Raises:  Refused(not_found).
    """
    sender = await senders.get(uow, sender_id)
    found = await FAILOVER.fallbacks.value(uow.raw, uow.tenant, sender_id)
    return FallbacksView(sender.connection_id, list(found))


async def choose(
    uow: UnitOfWork, vault: Vault, actor: Actor, sender_id: UUID, wanted: Sequence[UUID], *, reason: str = "not given"
) -> FallbacksView:
    """Say which connections take over; an empty list: none. Workers use it within five seconds.

    Raises:  Refused(not_found; too_many; duplicate_connection; other_channel).
    """
    sender = await senders.get(uow, sender_id)
    if len(wanted) > MOST:
        raise Refused("too_many", f"at most {MOST} connections", field="/fallback_ids")
    rows = {row["id"]: row["provider"] for row in await FAILOVER.connection_providers.many(uow.raw, uow.tenant, wanted)}
    seen = {sender.connection_id}
    for position, connection_id in enumerate(wanted):
        field = f"/fallback_ids/{position}"
        if connection_id not in rows:
            raise Refused("not_found", "no such connection", field=field, status=404)
        if connection_id in seen:
            raise Refused("duplicate_connection", "the sender has this connection already", field=field)
        channel = connections.provider_of(vault, rows[connection_id]).channel
        if channel != sender.channel:
            raise Refused("other_channel", f"this connection is of channel {channel}", field=field)
        seen.add(connection_id)
    await FAILOVER.fallbacks_clear.run(uow.raw, uow.tenant, sender_id)
    await FAILOVER.fallbacks_set.run(uow.raw, uow.tenant, sender_id, list(wanted))
    details = {"connections": [str(each) for each in wanted]}
    await append(
        uow, actor, action="sender.fallbacks", target=("sender", str(sender_id)), reason=reason, details=details
    )
    return FallbacksView(sender.connection_id, list(wanted))
