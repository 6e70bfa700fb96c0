"""The preference centre behind a link in a message: each list on offer turned on or off, or everything off.

Owns what a choice consists of. Only what changed on the page is changed here; turning on is a yes with its proof, and
lifts what such a yes may lift (`standing`), turning off is a refusal that nobody else takes back (`contacts.offers`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from uuid import UUID

import msgspec

from outrider.contracts.actor import Actor
from outrider.contracts.channel import Channel
from outrider.data.db import UnitOfWork
from outrider.domain.audit.append import append
from outrider.domain.campaigns.unsubscribe import Subject, mask, subject_of, unsubscribe
from outrider.domain.contacts import offers
from outrider.domain.contacts.offers import Choice
from outrider.domain.contacts.rows import SQL as CONTACTS
from outrider.domain.messages.rows import SQL as MESSAGES
from outrider.domain.signup import standing
from outrider.domain.signup.confirm import contact_at
from outrider.domain.signup.forms import CHANNEL
from outrider.domain.signup.rows import SQL
from outrider.domain.signup.standing import Standing, Yes

FORM_VERSION = "preferences:1"
"""What stands in the proof; it rises with the words of `promise`."""

_BULK_PURPOSE = "marketing"


class Preferences(msgspec.Struct, frozen=True):
    """Who may choose what; nothing is on for somebody who left."""

    subject: Subject
    contact_id: UUID | None
    purpose: str
    standing: Standing
    choices: list[Choice]


class Chosen(msgspec.Struct, frozen=True):
    """What a choice changed: titles of lists. `is_blocked`: something was wanted that nobody may turn on."""

    turned_on: list[str]
    turned_off: list[str]
    is_blocked: bool


async def look(uow: UnitOfWork, message_id: UUID) -> Preferences | None:
    """What a link is about; None when the message is no longer kept, or its recipient was erased."""
    subject = await subject_of(uow, message_id)
    if subject is None or subject.channel != CHANNEL or "@" not in subject.address:
        return None
    row = await MESSAGES.message_get.one(uow.raw, uow.tenant, message_id)
    purpose = subject.purpose if row is not None and row["message_class"] == "bulk" else _BULK_PURPOSE
    contact_id = await CONTACTS.address_owner.value(uow.raw, uow.tenant, CHANNEL, subject.address)
    stands = await standing.of(uow, CHANNEL, subject.address)
    choices = await offers.choices(uow, contact_id)
    if stands != "free" or not await standing.gets_bulk(uow, contact_id, CHANNEL, purpose):
        choices = [msgspec.structs.replace(each, is_on=False) for each in choices]
    return Preferences(subject, contact_id, purpose, stands, choices)


async def choose(
    uow: UnitOfWork,
    channels: Mapping[str, Channel],
    message_id: UUID,
    *,
    shown: Collection[UUID],
    wanted: Collection[UUID],
    ip: str | None,
) -> tuple[Preferences, Chosen] | None:
    """Do what somebody chose on the page; once more, or at once in two windows, changes nothing more.

    Takes:   a unit of work of the engine role; shown: the lists that stood on the page; wanted: those that were ticked.
    Gives:   what holds afterwards and what was changed; None as `look`.
    """
    subject = await subject_of(uow, message_id)
    if subject is None:
        return None
    await SQL.address_turn.run(uow.raw, uow.tenant, hashlib.sha256(subject.address.encode()).digest())
    found = await look(uow, message_id)
    if found is None:
        return None
    on = [each for each in found.choices if each.list_id in wanted and not each.is_on]
    off = [each for each in found.choices if each.list_id in shown and each.list_id not in wanted and each.is_on]
    actor = Actor("recipient", mask(subject.address), ip)
    source = f"{standing.OWN_CLICK}{message_id}"
    if off and found.contact_id is not None:
        await offers.turn_off(uow, found.contact_id, {each.list_id for each in off}, source=source)
    turned_on = bool(on) and found.standing != "blocked"
    if turned_on:
        contact_id = found.contact_id or await contact_at(uow, channels, actor, subject.address)
        yes = Yes(CHANNEL, subject.address, found.purpose, source, promise(on), FORM_VERSION, ip)
        turned_on = await standing.say_yes(uow, channels, actor, contact_id, yes, {each.list_id for each in on})
    chosen = Chosen(
        [each.title for each in on] if turned_on else [],
        [each.title for each in off],
        is_blocked=bool(on) and not turned_on,
    )
    if chosen.turned_on or chosen.turned_off:
        details = {"on": chosen.turned_on, "off": chosen.turned_off}
        target = ("message", str(message_id))
        await append(uow, actor, action="recipient.preferences", target=target, details=details)
    after = await look(uow, message_id)
    return None if after is None else (after, chosen)


async def leave(uow: UnitOfWork, message_id: UUID, *, ip: str | None) -> Preferences | None:
    """Everything off, as the unsubscribe link does it (engine role). Gives what holds afterwards; None as `look`."""
    found = await look(uow, message_id)
    if found is None:
        return None
    await unsubscribe(uow, found.subject, ip=ip, how="preferences")
    return await look(uow, message_id)


def promise(on: Collection[Choice]) -> str:
    """What somebody agreed to by ticking lists: the words of the page."""
    lines = [f"[x] {each.title}" + (f": {each.description}" if each.description else "") for each in on]
    return "\n".join(["Preference page: what I want to get by email", *lines])[:4_900]
