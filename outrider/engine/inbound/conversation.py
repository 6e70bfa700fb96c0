"""A conversation with one person: what was sent and what they wrote, newest first.

Owns the order of turns and the words of texts, which are made again of what is kept: when a content is gone by
retention, or a person erased, there are none. Links in them lead nowhere: who reads along is not who they are for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import msgspec

from outrider.base.ids import time_of
from outrider.contracts.channel import Composer, Identity, Item, Unrenderable
from outrider.data.db import Role, UnitOfWork
from outrider.data.runtime import Runtime
from outrider.domain.callbacks import look
from outrider.domain.contacts import read
from outrider.domain.messages import search
from outrider.domain.messages.rows import PEOPLE
from outrider.domain.senders import senders
from outrider.domain.senders.shown import identity_of
from outrider.domain.templates import contents, preview
from outrider.domain.tenants import tenants


class Turn(msgspec.Struct, frozen=True):
    """One thing said. Of what was sent: its state; of what they wrote: how it was understood and answered at once.

    text         of emails nothing: they have a web version
    is_withheld  the text is not shown because of the message's purpose (the tenant's `private_purposes`)
    """

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
    is_withheld: bool = False


@dataclass(frozen=True, slots=True)
class _Letters:
    """Messages of one content and sender, to be made again."""

    composer: Composer
    ids: list[UUID]
    items: list[Item]


async def with_contact(
    runtime: Runtime, tenant_id: UUID, contact_id: UUID, *, limit: int, before: UUID | None = None
) -> list[Turn]:
    """The newest turns of a conversation, on every channel.

    Takes:   limit 1..1000; before: the id of the last turn of the page before.
    Raises:  Refused(not_found); Unavailable when a text needs the renderer and it has no child process.
    """
    async with runtime.db.uow(Role.ENGINE, tenant_id) as uow:
        turns = await _turns(uow, contact_id, limit, before)
        texts = {key for key, channel in runtime.channels.items() if channel.measure(b"") is not None}
        ours = [turn for turn in turns if turn.direction == "sent" and turn.channel in texts and not turn.is_withheld]
        letters = await _letters(uow, runtime, [turn.id for turn in ours])
    words: dict[UUID, str] = {}
    for each in letters:
        made = await each.composer.compose(each.items)
        words.update(
            (message_id, one.body.decode(errors="replace"))
            for message_id, one in zip(each.ids, made, strict=True)
            if not isinstance(one, Unrenderable)
        )
    return [msgspec.structs.replace(each, text=words[each.id]) if each.id in words else each for each in turns]


async def _turns(uow: UnitOfWork, contact_id: UUID, limit: int, before: UUID | None) -> list[Turn]:
    """Who said something when, and what they wrote; in the order of their ids, which tell the time for both sides."""
    contact = await read.get(uow, contact_id)
    private = set((await tenants.get(uow, uow.tenant)).settings["private_purposes"].split(","))
    turns: list[Turn] = []
    for address in contact.addresses:
        turns += [
            Turn(each.received_at, "received", each.id, each.channel, each.address, "", each.text, each.word,
                 each.is_flagged, each.reply)
            for each in await look.inbound(
                uow, limit=limit, before=before, address=address.address, channel=address.channel
            )
        ]  # fmt: skip
        wanted = search.Filter(address=address.address)
        turns += [
            Turn(time_of(row["id"]), "sent", row["id"], row["channel"], row["address"], row["state"],
                 is_withheld=row["purpose"] in private)
            for row in await search.find(uow.raw, uow.tenant, wanted, limit=limit, before=before)
            if row["channel"] == address.channel
        ]  # fmt: skip
    return sorted(turns, key=lambda turn: turn.id, reverse=True)[:limit]


async def _letters(uow: UnitOfWork, runtime: Runtime, ids: Sequence[UUID]) -> list[_Letters]:
    """What these messages are made of, as far as it is kept."""
    rows = await PEOPLE.letters_of.many(uow.raw, uow.tenant, list(ids), min(ids), max(ids)) if ids else []
    together: defaultdict[tuple[UUID, UUID], list[Any]] = defaultdict(list)
    for row in rows:
        together[row["content_id"], row["sender_id"]].append(row)
    loaded = await contents.load(uow, uow.tenant, {content_id for content_id, _ in together})
    found = []
    known: dict[UUID, tuple[Identity, str]] = {}
    for (content_id, sender_id), same in together.items():
        content = loaded.get(content_id)
        if content is None:
            continue
        if sender_id not in known:  # nearly every text has a content of its own, and few senders wrote them all
            sender = await senders.get(uow, sender_id)
            known[sender_id] = await identity_of(uow, sender), sender.public_url or runtime.settings.public_url
        identity, public_url = known[sender_id]
        channel = runtime.channels[same[0]["channel"]]
        items = [
            preview.item_for(row["address"], row["variables"], is_bulk=row["is_bulk"], public_url=public_url)
            for row in same
        ]
        composer = channel.composer(replace(content, attachments=()), identity, runtime.renderer)
        found.append(_Letters(composer, [row["id"] for row in same], items))
    return found
