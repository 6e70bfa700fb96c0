"""What stands against writing to an address, and what a person's own yes may lift of it.

Owns the rule: a yes with its proof lifts the person's own earlier unsubscription, and nothing else. A complaint, a
STOP, an erasure, a hard bounce, what people of the tenant or another system entered and whatever holds for the
installation stay, whoever confirms what. Whoever comes back gets what they asked for, and not what they got before.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal
from uuid import UUID

import msgspec

from outrider.contracts.actor import Actor
from outrider.contracts.channel import Channel
from outrider.data.db import UnitOfWork
from outrider.domain.audit.append import append
from outrider.domain.contacts import consent, offers
from outrider.domain.contacts.consent import ConsentStatement
from outrider.domain.contacts.rows import SQL as CONTACTS
from outrider.domain.tenants import tenants

Standing = Literal["free", "left", "blocked"]
"""Nothing stands against it; the person themself unsubscribed; something stands that they cannot lift."""

OWN_CLICK = "message:"
"""How the source of an entry begins that a person made by a link in a message."""


class Yes(msgspec.Struct, frozen=True):
    """A person's own agreement, with its proof."""

    channel: str
    address: str
    purpose: str
    source: str
    text_shown: str
    form_version: str
    ip: str | None


async def of(uow: UnitOfWork, channel: str, address: str) -> Standing:
    """What stands against an address in its stored form, the tenant's entries and the installation's."""
    rows = await CONTACTS.suppressions_of.many(uow.raw, uow.tenant, channel, address)
    if not rows:
        return "free"
    is_own = all(
        row["tenant_id"] == uow.tenant
        and row["reason"] == "unsubscribe"
        and row["scope"] == "bulk"
        and row["source"].startswith(OWN_CLICK)
        for row in rows
    )
    return "left" if is_own else "blocked"


async def gets_bulk(uow: UnitOfWork, contact_id: UUID | None, channel: str, purpose: str) -> bool:
    """Whether consent lets a contact get messages of a purpose."""
    held = None
    if contact_id is not None:
        held = await CONTACTS.consent_held.value(uow.raw, uow.tenant, contact_id, channel, purpose)
    if held is None:
        tenant = await tenants.get(uow, uow.tenant)
        return not tenant.settings["consent_required"]
    return bool(held == "granted")


async def say_yes(
    uow: UnitOfWork,
    channels: Mapping[str, Channel],
    actor: Actor,
    contact_id: UUID,
    yes: Yes,
    list_ids: Collection[UUID],
) -> bool:
    """Take a person's yes to some lists: consent with its proof, the lists, and no more than that.

    Takes:   the contact that has the address; lists that are not on offer are passed over.
    Gives:   False when something stands against it that they cannot lift: nothing was changed then.
    """
    stands = await of(uow, yes.channel, yes.address)
    if stands == "blocked":
        return False
    held = await CONTACTS.consent_held.value(uow.raw, uow.tenant, contact_id, yes.channel, yes.purpose)
    if stands == "left" or held == "withdrawn":
        before = await offers.memberships(uow, contact_id)
        await offers.turn_off(uow, contact_id, before - set(list_ids), source=yes.source)
    if stands == "left":
        await CONTACTS.unsuppress.value(uow.raw, uow.tenant, yes.channel, yes.address)
        target = ("contact", str(contact_id))
        await append(uow, actor, action="recipient.came_back", target=target, details={"source": yes.source})
    said = ConsentStatement(yes.channel, yes.purpose, "granted", yes.source, yes.ip, yes.text_shown, yes.form_version)
    await consent.set_consent(uow, channels, actor, contact_id, said)
    await offers.turn_on(uow, contact_id, list_ids)
    return True
