"""One-click unsubscribe (RFC 8058): what a recipient's own click does. Looking never changes anything.

Owns what an unsubscription consists of: a bulk entry on the do-not-contact list, the withdrawal of consent for the
message's purpose, and an event in the message's story.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from outrider.contracts.actor import Actor
from outrider.data.db import UnitOfWork
from outrider.domain.audit.append import append
from outrider.domain.contacts import consent, suppressions
from outrider.domain.messages import events
from outrider.domain.messages.rows import SQL as MESSAGES


@dataclass(frozen=True, slots=True)
class Subject:
    """Who would unsubscribe from whom."""

    message_id: UUID
    channel: str
    address: str
    purpose: str
    contact_id: UUID | None


async def subject_of(uow: UnitOfWork, message_id: UUID) -> Subject | None:
    """Whom a link is about; None when the message is no longer kept."""
    row = await MESSAGES.message_get.one(uow.raw, uow.tenant, message_id)
    if row is None:
        return None
    return Subject(message_id, row["channel"], row["address"], row["purpose"], row["contact_id"])


async def unsubscribe(uow: UnitOfWork, subject: Subject, *, ip: str | None, how: str) -> bool:
    """Take a recipient at their word; once more changes nothing.

    Takes:   a unit of work of the engine role (it writes the message's story); how: `one_click` or `page`.
    Gives:   whether anything changed. Workers are told at the commit: nothing bulk is accepted 1 s after it.
    Source:  RFC 8058; faults F84
    """
    source = f"message:{subject.message_id}"
    actor = Actor("recipient", mask(subject.address), ip)
    withdrawn = False
    if subject.contact_id is not None:
        withdrawn = await consent.withdraw(
            uow, subject.contact_id, subject.channel, subject.purpose, source=source, ip=ip
        )
    suppressed = await suppressions.record(
        uow, actor, subject.channel, subject.address, scope="bulk", reason="unsubscribe", source=source
    )
    if not (withdrawn or suppressed):
        return False
    await events.append(uow.raw, uow.tenant, subject.message_id, "unsubscribed", {"how": how})
    details = {"how": how, "channel": subject.channel, "purpose": subject.purpose}
    target = ("message", str(subject.message_id))
    await append(uow, actor, action="recipient.unsubscribe", target=target, details=details)
    return True


def mask(address: str) -> str:
    """An address as its owner recognises it and nobody else learns it: `a…@example.org`."""
    local, at, domain = address.rpartition("@")
    return f"{local[:1]}…@{domain}" if at else f"…{address[-2:]}"
