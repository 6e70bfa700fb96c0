"""First rates: an account that nobody has given a rate yet gets the one that its provider is known to take.

Owns that first rate. It is one like any other, shown among the limits: whoever has agreed on more changes it, and who
takes it away is not given it again.
"""

from __future__ import annotations

from uuid import UUID

from outrider.contracts.actor import Actor
from outrider.contracts.provider import KnowsRate, Provider
from outrider.data.db import UnitOfWork
from outrider.domain.limits import buckets

_WHY = "what its provider takes unless more was agreed"


async def give(uow: UnitOfWork, actor: Actor, connection_id: UUID, provider: Provider) -> None:
    """Give a connection that was just made the rate of its provider, if that has one; audited."""
    if isinstance(provider, KnowsRate):
        await buckets.set_rate(uow, actor, "connection", connection_id, provider.usual_rate_per_s, reason=_WHY)
