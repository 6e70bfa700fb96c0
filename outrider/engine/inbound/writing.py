"""What people write to our numbers: kept on their timeline; a word to stop holds from the commit on.

Owns what each word leads to and the one answer it gets. Runs in the transaction in which the callback is kept, so that
the provider is answered only when it holds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from outrider.base.errors import Refused
from outrider.contracts.actor import Actor
from outrider.contracts.callbacks import Inbound
from outrider.contracts.channel import Channel
from outrider.data.db import UnitOfWork
from outrider.domain.audit.append import append
from outrider.domain.callbacks.rows import SQL
from outrider.domain.callbacks.words import Heard, heard
from outrider.domain.contacts import suppressions
from outrider.domain.contacts.rows import SQL as CONTACTS
from outrider.domain.senders.rows import SQL as SENDERS
from outrider.domain.tenants.rows import SQL as TENANTS
from outrider.domain.tenants.tenants import FIELDS

_ANSWER = "answer"
_TOLD_BY_THEM = frozenset({_ANSWER, "callback", "refused"})
"""Where an entry of a STOP comes from: its writer, or the provider, in a report or in its answer to a message."""
_ACTOR = Actor("recipient", _ANSWER)
_LONGEST_TEXT = 10_000
_HELP_AGAIN_S = 3600.0
_PRESETS = {field.name: str(field.default) for field in FIELDS}


@dataclass(frozen=True, slots=True)
class Office:
    """Whom somebody wrote to: the tenant's words and answers, and the sender of the number, if it is known."""

    sender_id: UUID | None
    name: str
    settings: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Text:
    """What somebody wrote by a channel and connection, and its row in `webhook_events`."""

    channel: Channel
    connection_id: UUID
    event_id: UUID
    said: Inbound

    @property
    def address(self) -> str:
        """Who wrote, in its stored form; empty for whoever cannot be written to (`Anonymous`, short codes)."""
        try:
            return self.channel.normalise(self.said.sender)
        except Refused:
            return ""


async def take_all(uow: UnitOfWork, texts: Sequence[Text]) -> list[str]:
    """Keep what people wrote and do what it asks for.

    Takes:   a unit of work of the engine role, bound to the tenant; inbound texts that are new, as they came.
    Gives:   what to answer to each; empty: nothing. What one person wrote is done in the order in which it came; people
             in the order in which everybody locks entries, the audit log last (decisions/0006).
    """
    addresses = [each.address for each in texts]
    hashes = [hashlib.sha256(address.encode()).digest() for address in addresses]
    replies = [""] * len(texts)
    came_back: list[tuple[str, bytes]] = []
    for at in sorted(range(len(texts)), key=lambda at: (texts[at].channel.key, hashes[at])):
        replies[at] = await _take(uow, texts[at], addresses[at], came_back)
    for channel, digest in came_back:
        target = ("suppression", f"{channel}:{digest.hex()}")
        await append(uow, _ACTOR, action="recipient.came_back", target=target, details={"source": _ANSWER})
    return replies


async def _take(uow: UnitOfWork, text: Text, address: str, came_back: list[tuple[str, bytes]]) -> str:
    channel, said = text.channel, text.said
    office = await _office(uow, channel, said.to)
    found = heard(said.text, str(office.settings.get("opt_out_words") or "").split(","))
    contact_id = await CONTACTS.address_owner.value(uow.raw, uow.tenant, channel.key, address) if address else None
    reply = ""
    if address:
        wanted = await _obey(uow, channel, address, found, office, came_back)
        # a number that is not ours answers nobody, and what the provider answered is not answered twice
        reply = wanted if office.sender_id is not None and not said.is_answered else ""
    await SQL.inbound_add.value(
        uow.raw, uow.tenant, channel.key, text.connection_id, office.sender_id, contact_id,
        address or said.sender[:64].replace("\0", ""), said.to[:64].replace("\0", ""), said.text[:_LONGEST_TEXT],
        said.media_count, found.word, found.is_flagged, reply, said.provider_id,
    )  # fmt: skip
    state, note = ("applied", "") if office.sender_id is not None else ("unknown_number", "no sender has this number")
    await SQL.inbound_ends.run(uow.raw, uow.tenant, text.event_id, state, note)
    return reply


async def _obey(
    uow: UnitOfWork, channel: Channel, address: str, found: Heard, office: Office, came_back: list[tuple[str, bytes]]
) -> str:
    """Do what a word asks for; gives its answer, once."""
    match found.word:
        case "stop":
            is_new = await suppressions.record(
                uow, _ACTOR, channel.key, address, scope="all", reason="stop", source=_ANSWER
            )
            return _text(office, "opt_out_reply") if is_new else ""
        case "start":
            entry = await CONTACTS.lock_suppression.one(uow.raw, uow.tenant, channel.key, address)
            # one that a STOP made, told us or the provider: what others had entered before it, it only strengthened
            if entry is None or entry["reason"] != "stop" or entry["source"] not in _TOLD_BY_THEM:
                return ""
            await CONTACTS.unsuppress.value(uow.raw, uow.tenant, channel.key, address)
            came_back.append((channel.key, hashlib.sha256(address.encode()).digest()))
            return _text(office, "opt_in_reply")
        case "help":
            key = (uow.tenant, channel.key, address, "help")
            is_answered = await SQL.answered_lately.value(uow.raw, *key, _HELP_AGAIN_S)
            return "" if is_answered else _text(office, "help_reply")
    return ""


async def _office(uow: UnitOfWork, channel: Channel, number: str) -> Office:
    tenant: asyncpg.Record = await TENANTS.tenant_get.one(uow.raw, uow.tenant)
    settings = orjson.loads(tenant["settings"])
    owner = await SENDERS.number_owner.one(uow.raw, uow.tenant, number, channel.key)
    if owner is None:
        return Office(None, tenant["name"], settings)
    return Office(owner["sender_id"], owner["from_name"] or tenant["name"], settings)


def _text(office: Office, name: str) -> str:
    chosen = office.settings.get(name)
    text = _PRESETS[name] if chosen is None else str(chosen)
    return text.replace("{name}", office.name)
