"""Two contacts that are one person become one, with everything that was sent to either."""

from __future__ import annotations

from uuid import UUID

from outrider.contracts.actor import Actor
from outrider.data.db import UnitOfWork
from outrider.domain.audit.append import append
from outrider.domain.campaigns.rows import DELIVERY
from outrider.domain.contacts import read
from outrider.domain.contacts.combine import combine
from outrider.domain.contacts.views import ContactView
from outrider.domain.limits import contacted
from outrider.domain.messages import people


async def merge(
    uow: UnitOfWork, actor: Actor, keep_id: UUID, other_id: UUID, *, reason: str = "not given"
) -> ContactView:
    """Make `other_id` a part of `keep_id`; it cannot be undone.

    Takes:   a unit of work of the engine role.
    Gives:   the kept contact: its own words where both say something; of consent the withdrawal.
    Raises:  Refused(not_found; same_contact; too_many, too_large); nothing was changed.
    """
    await DELIVERY.audience_remember.run(uow.raw, uow.tenant, other_id)
    moved = await combine(uow, actor, keep_id, other_id)
    await people.give(uow, keep_id, other_id, [row["address"] for row in moved])
    await contacted.give(uow.raw, uow.tenant, keep_id, other_id)
    target = ("contact", str(keep_id))
    details = {"merged": str(other_id), "addresses": len(moved)}
    await append(uow, actor, action="contact.merge", target=target, reason=reason, details=details)
    return await read.get(uow, keep_id)
