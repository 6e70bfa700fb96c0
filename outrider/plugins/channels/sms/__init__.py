"""The SMS channel: telephone numbers, texts, and what they come to in parts.

Owns what an SMS is; never sends one, never asks a carrier, never reads the database.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from outrider.base.errors import Refused
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
from outrider.data.gsm import size_of
from outrider.plugins.channels.sms import number
from outrider.plugins.channels.sms.identity import check_identity
from outrider.plugins.channels.sms.message import SmsComposer
from outrider.plugins.channels.sms.review import links, reviewed
from outrider.plugins.channels.sms.text import compile_content


class SmsChannel:
    """Implements `contracts.channel.Channel`."""

    key = "sms"
    help = "Text messages to telephone numbers: E.164, counted in GSM-7 or UCS-2 parts, with a word to opt out."
    is_regional = True
    is_repeatable = False

    def normalise(self, address: str, *, field: str = "address", region: str = "") -> str:
        """E.164; see `number.normalise`."""
        return number.normalise(address, field=field, region=region)

    def notes(self, address: str) -> AddressNotes:
        """Landlines; see `number.notes`."""
        return number.notes(address)

    def check_identity(self, identity: Identity) -> tuple[Identity, list[str]]:
        """Check a sender; see `identity.check_identity`."""
        return check_identity(identity)

    async def write(self, manuscript: Manuscript, renderer: Renderer) -> Written:
        """The text as it is: there is nothing to make of it.

        Raises:  Refused naming mjml or html.
        """
        del renderer
        for name, value in (("mjml", manuscript.mjml), ("html", manuscript.html)):
            if value:
                raise Refused("not_for_channel", "an SMS has a text and nothing else", field=name)
        return Written(None, manuscript.text)

    def review(self, content: Content, *, is_bulk: bool) -> list[LinkNote]:
        """Look at the links of a text; see `review.reviewed`."""
        return reviewed(content, is_bulk=is_bulk)

    def links(self, content: Content) -> list[str]:
        """The links without expressions; see `review.links`."""
        return links(content)

    def measure(self, body: bytes) -> Measure:
        """How many parts a text is sent and billed as."""
        size = size_of(body.decode())
        return Measure(size.encoding, size.segments, size.characters, size.units, size.units_left, size.odd)

    async def compile(self, content: Content, renderer: Renderer) -> Mapping[str, Any] | None:
        """Check and compile content; see `text.compile_content`."""
        return await compile_content(content, renderer)

    def composer(self, content: Content, identity: Identity, renderer: Renderer) -> Composer:
        """A composer of this text from this sender."""
        return SmsComposer(content, identity, renderer)


CHANNEL = SmsChannel()
