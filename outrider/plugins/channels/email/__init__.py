"""The email channel: addresses, templates, and the bytes of messages.

Owns what an email is; never sends one, never asks DNS, never reads the database.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from outrider.contracts.channel import (
    AddressNotes,
    Composer,
    Content,
    Identity,
    LinkNote,
    Manuscript,
    Measure,
    Renderer,
    Written,
)
from outrider.plugins.channels.email import address as addresses
from outrider.plugins.channels.email.compile import compile_content
from outrider.plugins.channels.email.identity import check_identity
from outrider.plugins.channels.email.message import EmailComposer
from outrider.plugins.channels.email.review import links, reviewed
from outrider.plugins.channels.email.writing import written


class EmailChannel:
    """Implements `contracts.channel.Channel`."""

    key = "email"
    help = "Email over SMTP or a provider's API: HTML and text, attachments, one-click unsubscribe, DKIM."
    is_regional = False
    is_repeatable = True

    def normalise(self, address: str, *, field: str = "address", region: str = "") -> str:
        """The one stored form of an address, the same in every country; see `address.normalise`."""
        del region
        return addresses.normalise(address, field=field)

    def notes(self, address: str) -> AddressNotes:
        """Role, probable typing mistake, mixed alphabets; see `address.notes`."""
        return addresses.notes(address)

    def check_identity(self, identity: Identity) -> tuple[Identity, list[str]]:
        """Check a sender; see `identity.check_identity`."""
        return check_identity(identity)

    async def write(self, manuscript: Manuscript, renderer: Renderer) -> Written:
        """MJML to HTML, styles into elements, text from HTML; see `writing.written`."""
        return await written(manuscript, renderer)

    def review(self, content: Content, *, is_bulk: bool) -> list[LinkNote]:
        """Look at the links of a content; see `review.reviewed`."""
        return reviewed(content, is_bulk=is_bulk)

    def links(self, content: Content) -> list[str]:
        """The links without expressions; see `review.links`."""
        return links(content)

    def measure(self, body: bytes) -> Measure | None:
        """None: an email is one, however long."""
        del body
        return None

    async def compile(self, content: Content, renderer: Renderer) -> Mapping[str, Any] | None:
        """Check and compile content; see `compile.compile_content`."""
        return await compile_content(content, renderer)

    def composer(self, content: Content, identity: Identity, renderer: Renderer) -> Composer:
        """A composer; about a millisecond to make, so keep it per content and sender."""
        return EmailComposer(content, identity, renderer)


CHANNEL = EmailChannel()
