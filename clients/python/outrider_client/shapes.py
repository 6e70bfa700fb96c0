"""What goes to the API and comes back, as plain dataclasses. Fields that a later server adds are left in `raw`."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that goes with a message."""

    name: str
    content: bytes
    content_type: str = "application/octet-stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message to send: a template, or subject with html and text. What is None is left to the server.

    `sender` and `template` are names or ids; `send_at` and `expires_at` need their offset from UTC.
    """

    to: str
    sender: str | None = None
    channel: str | None = None
    template: str | None = None
    template_version: int | None = None
    subject: str | None = None
    html: str | None = None
    text: str | None = None
    preheader: str | None = None
    variables: Mapping[str, Any] | None = None
    attachments: tuple[Attachment, ...] = ()
    message_class: Literal["transactional", "bulk"] | None = None
    purpose: str | None = None
    priority: int | None = None
    send_at: datetime | None = None
    expires_at: datetime | None = None

    def body(self) -> dict[str, Any]:
        """The JSON of the API."""
        found: dict[str, Any] = {}
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if value is None or value == ():
                continue
            if isinstance(value, datetime):
                value = value.isoformat()
            found["class" if name == "message_class" else name] = value
        if self.attachments:
            found["attachments"] = [
                {
                    "name": file.name,
                    "content_type": file.content_type,
                    "content": base64.b64encode(file.content).decode("ascii"),
                }
                for file in self.attachments
            ]
        return found


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a message, or to a campaign as a whole: then `message_id` is None.

    `id` is the same whenever it is read; `data` holds its facts.
    """

    id: str
    at: datetime
    kind: str
    message_id: str | None
    channel: str
    campaign_id: str | None
    data: dict[str, Any]
    raw: dict[str, Any] = field(repr=False, compare=False, default_factory=dict)

    @classmethod
    def read(cls, raw: dict[str, Any]) -> Event:
        """From the API's JSON."""
        return cls(
            raw["id"], instant(raw["at"]), raw["kind"], raw["message_id"], raw["channel"], raw["campaign_id"],
            raw["data"], raw,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class EventPage:
    """Events in order, and the cursor to go on with; keep it also when `items` is empty."""

    items: list[Event]
    next_cursor: str
    has_more: bool

    @classmethod
    def read(cls, raw: dict[str, Any]) -> EventPage:
        """From the API's JSON."""
        return cls([Event.read(one) for one in raw["items"]], raw["next_cursor"], raw["has_more"])


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a message failed, is uncertain or waits, in words, and what to do about it."""

    code: str
    title: str
    why: str
    remedy: str

    @classmethod
    def read(cls, raw: dict[str, Any] | None) -> Cause | None:
        """From the API's JSON; None where nothing is the matter, and from servers that do not tell."""
        return None if raw is None else cls(raw["code"], raw["title"], raw["why"], raw["remedy"])


@dataclass(frozen=True, slots=True)
class MessageEvent:
    """An entry of a message's timeline: its facts, and what the cause among them means."""

    at: datetime
    kind: str
    data: dict[str, Any]
    cause: Cause | None


@dataclass(frozen=True, slots=True)
class MessageInfo:
    """A message as it stands; `events` and `timeline` are there when one message was asked for.

    `cause` says why it failed, is uncertain or waits; `timeline` is `events`, typed.
    """

    id: str
    to: str
    channel: str
    state: str
    attempts: int
    accepted_at: datetime
    finished_at: datetime | None
    campaign_id: str | None
    code: str | None
    detail: str | None
    events: tuple[dict[str, Any], ...] = ()
    raw: dict[str, Any] = field(repr=False, compare=False, default_factory=dict)
    cause: Cause | None = None

    @property
    def timeline(self) -> tuple[MessageEvent, ...]:
        """Everything that happened to it, oldest first."""
        return tuple(
            MessageEvent(instant(one["at"]), one["kind"], one["data"], Cause.read(one.get("cause")))
            for one in self.events
        )

    @classmethod
    def read(cls, raw: dict[str, Any], events: tuple[dict[str, Any], ...] = ()) -> MessageInfo:
        """From the API's JSON."""
        return cls(
            raw["id"], raw["to"], raw["channel"], raw["state"], raw["attempts"], instant(raw["accepted_at"]),
            instant(raw["finished_at"]) if raw["finished_at"] else None, raw["campaign_id"], raw["code"], raw["detail"],
            events, raw, Cause.read(raw.get("cause")),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class CountryPrice:
    """What a message costs to a country with a price of its own."""

    country: str
    per_part_micros: int
    total_micros: int


@dataclass(frozen=True, slots=True)
class Price:
    """What a message costs, in millionths of the currency; None where no price is known, and `note` says so.

    `country` is the recipient's, None where it is not known who gets it: then `countries` says what it depends on.
    """

    currency: str
    parts: int
    country: str | None
    per_part_micros: int | None
    total_micros: int | None
    note: str = ""
    countries: list[CountryPrice] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Measure:
    """How many parts a text is sent and billed as, and what that costs; `odd` are the characters that force UCS-2."""

    encoding: str
    segments: int
    characters: int
    units: int
    units_left: int
    odd: str
    price: Price
    raw: dict[str, Any] = field(repr=False, compare=False, default_factory=dict)


def instant(text: str) -> datetime:
    """A time of the API."""
    return datetime.fromisoformat(text)
