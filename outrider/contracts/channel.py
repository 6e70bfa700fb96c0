"""What a channel is: it knows its addresses and turns content into bytes.

A channel is one file or package `plugins/channels/<key>` with a module-level `CHANNEL`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from outrider.contracts.provider import Outgoing


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that goes with the message. `name` has passed the channel's check; content is raw bytes."""

    name: str
    content_type: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Content:
    """What is sent, before recipients are known: template sources and, where possible, their compiled form.

    subject, html, text are template sources (minijinja); at least one of html and text for email. `compiled`
    is what `Channel.compile` gave at save time, or None when rendering needs the child process. `version_key` names the
    content: equal keys mean equal content (template version id, or a hash of inline content).
    """

    version_key: str
    subject: str
    html: str | None
    text: str | None
    preheader: str = ""
    compiled: Mapping[str, Any] | None = None
    attachments: tuple[Attachment, ...] = ()


@dataclass(frozen=True, slots=True)
class Dkim:
    """A signing key: private key as PEM; algorithm follows from it (RSA or Ed25519)."""

    domain: str
    selector: str
    private_key_pem: str


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a message comes from, as frozen with the sender. `public_url` is the base of unsubscribe links."""

    sender_id: UUID
    from_address: str
    from_name: str = ""
    reply_to: str = ""
    return_path: str = ""
    postal_address: str = ""
    dkim: tuple[Dkim, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Item:
    """One recipient of a batch. `variables` is the raw JSON object text from the ledger, never parsed by callers."""

    id: UUID
    address: str
    variables: str | None
    dated_at: datetime
    unsubscribe_url: str = ""
    """Empty for transactional messages: no List-Unsubscribe header, no footer."""


@dataclass(frozen=True, slots=True)
class Unrenderable:
    """This recipient's message cannot be made; the others are not concerned."""

    id: UUID
    detail: str


class Renderer(Protocol):
    """Runs tenants' templates in child processes with limits; a dead child fails its template's messages only."""

    async def render(
        self, sources: Mapping[str, str], version_key: str, contexts: Sequence[str]
    ) -> list[dict[str, str] | str]:
        """Render every source for every context.

        Takes:   sources: part name -> template source; a name ending in `html` is auto-escaped. contexts: 1..1000 raw
                 JSON object texts.
        Gives:   per context a dict part -> text, or a str: why it could not be rendered.
        """
        ...


class Composer(Protocol):
    """Makes the bytes of one content and one identity; cached by the worker."""

    async def compose(self, items: Sequence[Item]) -> list[Outgoing | Unrenderable]:
        """One answer per item, in order. The bytes are a pure function of content, identity and item."""
        ...


class Channel(Protocol):
    """One way of reaching people."""

    key: str
    help: str

    def normalise(self, address: str, *, field: str = "address") -> str:
        """The one stored form of an address. Raises Refused(invalid_address …) naming `field`."""
        ...

    async def compile(self, content: Content, renderer: Renderer) -> Mapping[str, Any] | None:
        """Check content at save time (rendered once in a child) and compile it if it only substitutes variables.

        Gives:   JSON-able compiled form, or None when every send needs the child process.
        Raises:  Refused naming subject, html or text, with the line.
        """
        ...

    def composer(self, content: Content, identity: Identity, renderer: Renderer) -> Composer:
        """A composer for this content; cheap enough to make per claim, worth caching."""
        ...
