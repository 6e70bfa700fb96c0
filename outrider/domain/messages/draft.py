"""One message as a program asks for it, and the checks that need nothing but it and what was looked up already.

Owns defaults and the naming of each mistake with its place; never reads the database.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg

from outrider.base.errors import Refused
from outrider.contracts.channel import Attachment
from outrider.contracts.gate import MessageClass
from outrider.domain.messages.admit import LaneKey

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
    source: str = ""
    """Who asked for it: what the program says (its user, an IP address), else the caller."""


def check_variables(draft: Draft) -> None:
    """Refuse variables that are too long.

    Raises:  Refused(too_long).
    """
    if draft.variables is not None and len(draft.variables) > _MOST_VARIABLES:
        raise Refused("too_long", f"variables have at most {_MOST_VARIABLES} bytes", field=f"{draft.field}/variables")


def check_template_alone(draft: Draft) -> None:
    """Refuse a template together with what it would say.

    Raises:  Refused(template_or_content).
    """
    if draft.subject is not None or draft.html is not None or draft.text is not None or draft.attachments:
        raise Refused(
            "template_or_content",
            "give a template or subject, html, text and attachments, not both",
            field=f"{draft.field}/template",
        )


def unknown_template(draft: Draft) -> Refused:
    """Why a draft is refused whose template there is not."""
    return Refused("unknown_template", "no such template or version for this channel", field=f"{draft.field}/template")


def lane_key_of(draft: Draft, sender_id: UUID) -> LaneKey:
    """What decides its lane and the columns it shares with others."""
    purpose = draft.purpose or ("marketing" if draft.message_class == "bulk" else "transactional")
    return LaneKey(draft.channel, sender_id, draft.message_class, purpose, draft.priority)


def sender_of(draft: Draft, senders: Iterable[asyncpg.Record]) -> UUID:
    """The sender named, or the only one of the channel, among the tenant's senders in use.

    Raises:  Refused(sender_required, unknown_sender).
    """
    usable = [row for row in senders if row["channel"] == draft.channel]
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


def times_of(draft: Draft, now: datetime) -> tuple[datetime | None, datetime | None]:
    """When to send and until when; an instant without offset is refused, one just past means now [R54].

    Raises:  Refused(offset_required, out_of_range).
    """
    at = draft.field
    for name, moment in (("send_at", draft.send_at), ("expires_at", draft.expires_at)):
        if moment is None:
            continue
        if moment.tzinfo is None:
            raise Refused("offset_required", "needs an offset, for example 2026-11-20T09:00:00Z", field=f"{at}/{name}")
        if moment - now > _FARTHEST or now - moment > _OLDEST:
            raise Refused("out_of_range", "must be within a year from now", field=f"{at}/{name}")
    if draft.expires_at is not None and draft.expires_at <= (draft.send_at or now):
        raise Refused("out_of_range", "must be later than the time of sending", field=f"{at}/expires_at")
    due_at = draft.send_at.astimezone(UTC) if draft.send_at and draft.send_at > now else None
    return due_at, draft.expires_at
