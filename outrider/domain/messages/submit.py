"""Submission: what a program asks to send is checked as a whole, then admitted in the caller's transaction.

Owns defaults, checks and the naming of every mistake with its place; admission itself is admit.py.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from outrider.base.errors import Refused, RefusedMany
from outrider.contracts.channel import Channel, Renderer
from outrider.data.db import UnitOfWork
from outrider.domain.contacts.channels import needs_region
from outrider.domain.messages.admit import LaneKey, NewMessage, admit
from outrider.domain.messages.draft import (
    Draft,
    check_template_alone,
    check_variables,
    lane_key_of,
    sender_of,
    times_of,
    unknown_template,
)
from outrider.domain.messages.rows import SQL
from outrider.domain.templates import contents
from outrider.domain.tenants.regions import region_of

MOST_MESSAGES = 5_000
_MOST_ERRORS = 100
_YIELD_COUNT = 100


class Submission:
    """Checks drafts against one tenant's senders, templates and channels."""

    def __init__(self, uow: UnitOfWork, channels: Mapping[str, Channel], renderer: Renderer, now: datetime) -> None:
        self._uow = uow
        self._channels = channels
        self._renderer = renderer
        self._now = now
        self._senders: list[Any] = []
        self._contents: dict[Any, UUID] = {}
        self._home: str | None = None

    async def accept(self, drafts: Sequence[Draft]) -> list[UUID]:
        """Check everything, then admit everything.

        Takes:   1..5,000 drafts, of any channels and senders.
        Gives:   the ids, in the order of the drafts.
        Raises:  RefusedMany with at most 100 mistakes, each naming its field; Refused(tenant_queue_full, 429) and
                 Unavailable(queue_full) where there is no room for all. Nothing is written then.
        """
        self._senders = await SQL.senders_named.many(self._uow.raw, self._uow.tenant, None)
        groups = await self._checked(drafts)
        ids: list[UUID] = [self._uow.tenant] * len(drafts)
        for key, part in groups.items():
            messages = [message for _index, message in part]
            await self._find_contacts(key.channel, messages)
            for (index, _message), message_id in zip(
                part, await admit(self._uow, self._uow.tenant, key, messages), strict=True
            ):
                ids[index] = message_id
        return ids

    async def _checked(self, drafts: Sequence[Draft]) -> dict[LaneKey, list[tuple[int, NewMessage]]]:
        """Every draft by its lane, with where it stands; none when there is any mistake."""
        errors: list[Refused] = []
        groups: dict[LaneKey, list[tuple[int, NewMessage]]] = defaultdict(list)
        for index, draft in enumerate(drafts):
            if index % _YIELD_COUNT == _YIELD_COUNT - 1:
                await asyncio.sleep(0)  # thousands of numbers take a quarter of a second: others go on meanwhile
            try:
                key, message = await self._check(draft)
                groups[key].append((index, message))
            except RefusedMany as many:
                errors += many.errors
            except Refused as error:
                errors.append(error)
            if len(errors) >= _MOST_ERRORS:
                break
        if errors:
            raise RefusedMany(errors[:_MOST_ERRORS])
        return groups

    async def _check(self, draft: Draft) -> tuple[LaneKey, NewMessage]:
        at = draft.field
        channel = self._channels.get(draft.channel)
        if channel is None:
            raise Refused("unknown_channel", f"must be one of {', '.join(self._channels)}", field=f"{at}/channel")
        region = await self._region() if needs_region(channel, draft.to) else ""
        address = channel.normalise(draft.to, field=f"{at}/to", region=region)
        sender_id = sender_of(draft, self._senders)
        check_variables(draft)
        due_at, expires_at = times_of(draft, self._now)
        content_id = await self._content(draft, channel)
        return lane_key_of(draft, sender_id), NewMessage(
            address, content_id, draft.variables, None, due_at, expires_at, draft.source
        )

    async def _region(self) -> str:
        """The tenant's country, asked once."""
        if self._home is None:
            self._home = await region_of(self._uow.raw, self._uow.tenant)
        return self._home

    async def _content(self, draft: Draft, channel: Channel) -> UUID:
        """The content: a template's version, or what stands in the request, stored once."""
        key = (
            draft.channel,
            draft.template,
            draft.template_version,
            draft.subject,
            draft.html,
            draft.text,
            draft.preheader,
            draft.attachments,
        )
        known = self._contents.get(key)
        if known is None:
            known = self._contents[key] = await (
                self._template(draft) if draft.template else self._inline(draft, channel)
            )
        return known

    async def _template(self, draft: Draft) -> UUID:
        check_template_alone(draft)
        row = await SQL.template_content.one(self._uow.raw, self._uow.tenant, draft.template, draft.template_version)
        if row is None or row["channel"] != draft.channel:
            raise unknown_template(draft)
        return row["content_id"]  # type: ignore[no-any-return]  # a row of uuid

    async def _inline(self, draft: Draft, channel: Channel) -> UUID:
        at = draft.field
        if draft.html is None and draft.text is None:
            raise Refused("content_required", "needs a template, or html or text", field=f"{at}/text")
        try:
            return await contents.save(
                self._uow, channel, self._renderer, subject=draft.subject or "", html=draft.html, text=draft.text,
                preheader=draft.preheader, attachments=draft.attachments, is_template=False,
            )  # fmt: skip
        except Refused as error:
            raise Refused(error.code, error.message, field=f"{at}/{(error.field or 'text').lstrip('/')}") from None

    async def _find_contacts(self, channel: str, messages: list[NewMessage]) -> None:
        """Tie messages to the contacts behind their addresses, in one look-up."""
        addresses = list({message.address for message in messages})
        rows = await SQL.contacts_at.many(self._uow.raw, self._uow.tenant, channel, addresses)
        known = {row["address"]: row["contact_id"] for row in rows}
        for message in messages:
            message.contact_id = known.get(message.address)
