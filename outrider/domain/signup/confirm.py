"""Confirming: the second of the two yeses. Looking at the link changes nothing, pressing the button does, once.

Owns what a confirmation makes: a contact with the address, consent with the proof of both moments, the lists chosen. A
link that was used, or whose time is over, changes nothing more, so that somebody who leaves afterwards stays away.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Literal
from uuid import UUID

import msgspec
import orjson

from outrider.contracts.actor import Actor
from outrider.contracts.channel import Channel
from outrider.data.db import UnitOfWork
from outrider.domain.audit.append import append
from outrider.domain.campaigns.unsubscribe import mask
from outrider.domain.contacts import offers, write
from outrider.domain.contacts.rows import SQL as CONTACTS
from outrider.domain.contacts.views import AddressView
from outrider.domain.contacts.write import ContactChange, NewContact
from outrider.domain.signup import standing
from outrider.domain.signup.forms import CHANNEL
from outrider.domain.signup.rows import SQL
from outrider.domain.signup.standing import Yes

State = Literal["waiting", "confirmed", "refused", "expired"]


class Pending(msgspec.Struct, frozen=True):
    """What a link is about, as its page shows it; the mark of what is shown goes back with the button."""

    address: str
    state: State
    form_title: str
    lists: list[str]
    text_shown: str
    mark: str


async def look(uow: UnitOfWork, signup_id: UUID) -> Pending | None:
    """What would be confirmed; None when it is no longer kept."""
    row = await SQL.signup_get.one(uow.raw, uow.tenant, signup_id)
    if row is None:
        return None
    titles = [each.title for each in await offers.listed(uow, _lists(row))]
    return Pending(row["address"], _state(row), row["title"], titles, row["text_shown"], _mark(row))


async def confirm(
    uow: UnitOfWork, channels: Mapping[str, Channel], signup_id: UUID, *, seen: str, ip: str | None
) -> Pending | None:
    """Take a confirmation (engine role). Whoever confirms twice, or at once in two windows, confirms once.

    Takes:   seen: the mark of what the page showed. The form may have been filled in once more since, by anybody.
    Gives:   what it is about with the state after this; None when it is not kept. State refused: something stands
             against the address that nobody lifts by a link; waiting: something else was seen, nothing was changed.
    """
    row = await SQL.signup_get.one(uow.raw, uow.tenant, signup_id)
    if row is None:
        return None
    await SQL.address_turn.run(uow.raw, uow.tenant, row["address_hash"])
    row = await SQL.signup_get.one(uow.raw, uow.tenant, signup_id)  # as it is now that it is our turn
    if row is None:
        return None
    if _state(row) == "waiting" and seen == _mark(row):
        state: State = "confirmed" if await _yes(uow, channels, row, ip) else "refused"
        await SQL.signup_settle.value(uow.raw, uow.tenant, signup_id, state)
    return await look(uow, signup_id)


async def _yes(uow: UnitOfWork, channels: Mapping[str, Channel], row: Any, ip: str | None) -> bool:
    address = row["address"]
    actor = Actor("recipient", mask(address), ip)
    if await standing.of(uow, CHANNEL, address) == "blocked":
        return False
    contact_id = await contact_at(uow, channels, actor, address, row["name"])
    asked = f"asked {row['created_at']:%Y-%m-%dT%H:%M:%SZ} from {row['ip'] or 'unknown'} ({row['source']})"
    source = f"form:{row['form_id']} signup:{row['id']} {asked}"
    version = f"{row['form_id']}:{row['form_version']}"
    yes = Yes(CHANNEL, address, row["purpose"], source, row["text_shown"], version, ip)
    given = await standing.say_yes(uow, channels, actor, contact_id, yes, _lists(row))
    if given:
        details = {"form": str(row["form_id"]), "version": row["form_version"], "lists": len(_lists(row))}
        await append(uow, actor, action="recipient.signup", target=("contact", str(contact_id)), details=details)
    return given


async def contact_at(
    uow: UnitOfWork, channels: Mapping[str, Channel], actor: Actor, address: str, name: str = ""
) -> UUID:
    """The contact that has a mail address; made when there is none. A name is taken where there was none.

    Raises:  Refused(address_taken, 409) when somebody else makes it in this very moment: try again.
    """
    owner: UUID | None = await CONTACTS.address_owner.value(uow.raw, uow.tenant, CHANNEL, address)
    if owner is None:
        new = NewContact(addresses=[AddressView(CHANNEL, address)], name=name)
        return (await write.create(uow, channels, actor, new)).id
    if name:
        row = await CONTACTS.lock_contact.one(uow.raw, uow.tenant, owner)
        if row is not None and not row["name"]:
            await write.update(uow, actor, owner, ContactChange(name=name))
    return owner


def _state(row: Any) -> State:
    state: State = row["state"]
    return "expired" if state == "waiting" and row["is_late"] else state


def _lists(row: Any) -> list[UUID]:
    return [UUID(each) for each in orjson.loads(row["list_ids"])]


def _mark(row: Any) -> str:
    """Of what would be agreed to: the lists and the words."""
    what = f"{row['form_id']}:{row['form_version']}:{row['list_ids']}:{row['text_shown']}"
    return hashlib.sha256(what.encode()).hexdigest()[:32]
