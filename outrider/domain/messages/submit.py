"""Submission: what a program asks to send is checked as a whole, then admitted in the caller's transaction.

Owns defaults, checks and the naming of every mistake with its place; admission itself is admit.py.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from outrider.base.errors import Refused, RefusedMany
from outrider.contracts.channel import Attachment, Channel, Renderer
from outrider.contracts.gate import MessageClass
from outrider.data.db import UnitOfWork
from outrider.domain.messages.admit import LaneKey, NewMessage, admit
from outrider.domain.messages.rows import SQL
from outrider.domain.templates import contents

MOST_MESSAGES = 5_000
_MOST_ERRORS = 100
_OLDEST = timedelta(days=1)
_FARTHEST = timedelta(days=365)
_MOST_VARIABLES = 65_536


@dataclass(slots=True)
class Draft:
    """One message as asked for. `variables` is JSON object text; `field` is where it stands in the request."""

    field: str
    to: str
    channel: str = "email"
    sender: str | None = None
    template: str | None = None
    template_version: int | None = None
    subject: str | None = None
    html: str | None = None
    text: str | None = None
    preheader: str = ""
    attachments: tuple[Attachment, ...] = ()
    variables: str | None = None
    message_class: MessageClass = "transactional"
    purpose: str | None = None
    priority: int = 5
    send_at: datetime | None = None
    expires_at: datetime | None = None


class Submission:
    """Checks drafts against one tenant's senders, templates and channels."""

    def __init__(self, uow: UnitOfWork, channels: Mapping[str, Channel], renderer: Renderer, now: datetime) -> None:
        self._uow = uow
        self._channels = channels
        self._renderer = renderer
        self._now = now
        self._senders: list[Any] = []
        self._contents: dict[Any, UUID] = {}

    async def accept(self, drafts: Sequence[Draft]) -> list[UUID]:
        """Check everything, then admit everything.

        Takes:   1..5,000 drafts, of any channels and senders.
        Gives:   the ids, in the order of the drafts.
        Raises:  RefusedMany with at most 100 mistakes, each naming its field; nothing is written then.
        """
        self._senders = await SQL.senders_named.many(self._uow.raw, self._uow.tenant, None)
        errors: list[Refused] = []
        groups: dict[LaneKey, list[tuple[int, NewMessage]]] = defaultdict(list)
        for index, draft in enumerate(drafts):
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
        ids: list[UUID] = [self._uow.tenant] * len(drafts)
        for key, part in groups.items():
            messages = [message for _index, message in part]
            await self._find_contacts(key.channel, messages)
            for (index, _message), message_id in zip(
                part, await admit(self._uow, self._uow.tenant, key, messages), strict=True
            ):
                ids[index] = message_id
        return ids

    async def _check(self, draft: Draft) -> tuple[LaneKey, NewMessage]:
        at = draft.field
        channel = self._channels.get(draft.channel)
        if channel is None:
            raise Refused("unknown_channel", f"must be one of {', '.join(self._channels)}", field=f"{at}/channel")
        address = channel.normalise(draft.to, field=f"{at}/to")
        sender_id = self._sender(draft)
        if draft.variables is not None and len(draft.variables) > _MOST_VARIABLES:
            raise Refused("too_long", f"variables have at most {_MOST_VARIABLES} bytes", field=f"{at}/variables")
        due_at, expires_at = self._times(draft)
        content_id = await self._content(draft, channel)
        purpose = draft.purpose or ("marketing" if draft.message_class == "bulk" else "transactional")
        key = LaneKey(draft.channel, sender_id, draft.message_class, purpose, draft.priority)
        return key, NewMessage(address, content_id, draft.variables, None, due_at, expires_at)

    def _sender(self, draft: Draft) -> UUID:
        """The sender named, or the only one of the channel."""
        usable = [row for row in self._senders if row["channel"] == draft.channel]
        if draft.sender is None:
            if len(usable) == 1:
                return usable[0]["id"]  # type: ignore[no-any-return]  # a row of uuid
            what = "there is no sender for this channel yet" if not usable else "several senders: name one"
            raise Refused("sender_required", what, field=f"{draft.field}/sender")
        for row in usable:
            if draft.sender in {str(row["id"]), row["name"]}:
                return row["id"]  # type: ignore[no-any-return]  # a row of uuid
        raise Refused(
            "unknown_sender",
            f"no such sender for {draft.channel}: {draft.sender[:80]!r}",
            field=f"{draft.field}/sender",
        )

    def _times(self, draft: Draft) -> tuple[datetime | None, datetime | None]:
        """When to send and until when; an instant without offset is refused, one just past means now [R54]."""
        at, now = draft.field, self._now
        for name, moment in (("send_at", draft.send_at), ("expires_at", draft.expires_at)):
            if moment is None:
                continue
            if moment.tzinfo is None:
                raise Refused(
                    "offset_required", "needs an offset, for example 2026-11-20T09:00:00Z", field=f"{at}/{name}"
                )
            if moment - now > _FARTHEST or now - moment > _OLDEST:
                raise Refused("out_of_range", "must be within a year from now", field=f"{at}/{name}")
        if draft.expires_at is not None and draft.expires_at <= (draft.send_at or now):
            raise Refused("out_of_range", "must be later than the time of sending", field=f"{at}/expires_at")
        due_at = draft.send_at.astimezone(UTC) if draft.send_at and draft.send_at > now else None
        return due_at, draft.expires_at

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
        at = draft.field
        if draft.subject is not None or draft.html is not None or draft.text is not None or draft.attachments:
            raise Refused(
                "template_or_content", "give a template or subject, html and text, not both", field=f"{at}/template"
            )
        row = await SQL.template_content.one(self._uow.raw, self._uow.tenant, draft.template, draft.template_version)
        if row is None or row["channel"] != draft.channel:
            raise Refused("unknown_template", "no such template or version for this channel", field=f"{at}/template")
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
