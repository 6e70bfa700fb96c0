"""What a recipient would get of a version: made as the worker makes it, sent to nobody.

Owns the sample recipient and the reading of the bytes; reads no contact itself and changes nothing.
"""

from __future__ import annotations

import email
import email.policy
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from email.message import EmailMessage
from typing import Any

import msgspec

from outrider.base.errors import Refused
from outrider.base.ids import NIL
from outrider.contracts.channel import Channel, Content, Identity, Item, Renderer, Unrenderable
from outrider.domain.contacts.views import ContactView

_SAMPLES = {
    "email": Identity(NIL, "sender@example.org", "Sample sender"),
    "sms": Identity(NIL, "+14155550100", opt_out_line="Reply STOP to opt out"),
}
_SAMPLE_ADDRESSES = {"email": "recipient@example.org", "sms": "+14155550123"}
ADDRESS_VARIABLES = {"email": "email", "sms": "phone"}
"""By what name a template of a channel knows the recipient's address; `address` elsewhere."""
_DATED_AT = datetime(2000, 1, 1, tzinfo=UTC)


class MeasureView(msgspec.Struct, frozen=True):
    """How many parts a text is sent and billed as; `units_left` more fit, `odd` are the characters that force UCS-2."""

    encoding: str
    segments: int
    characters: int
    units: int
    units_left: int
    odd: str


class Preview(msgspec.Struct, frozen=True):
    """A rendered version. Of email, the parts as a mail program reads them; of other channels, the text."""

    version: int
    subject: str
    sender: str
    html: str | None
    text: str | None
    size_bytes: int
    measure: MeasureView | None = None


def own_address(contact: ContactView | None, channel: str) -> str | None:
    """Where a contact gets messages of a channel; None: nowhere, or it is nobody."""
    return next((each.address for each in contact.addresses if each.channel == channel), None) if contact else None


def address_of(contact: ContactView | None, channel: str) -> str:
    """Where a contact gets messages of a channel; a sample's address without one."""
    return own_address(contact, channel) or _SAMPLE_ADDRESSES.get(channel, _SAMPLE_ADDRESSES["email"])


def variables_of(contact: ContactView | None, address: str, given: Mapping[str, Any], channel: str = "email") -> str:
    """What a template is rendered with: a contact's values as a campaign freezes them, and those given on top."""
    values: dict[str, Any] = {}
    if contact is not None:
        own = address or own_address(contact, channel) or ""
        values = {**contact.attributes, "name": contact.name, ADDRESS_VARIABLES.get(channel, "address"): own}
        if contact.external_id is not None:
            values["external_id"] = contact.external_id
    return msgspec.json.encode({**values, **given}).decode()  # whole numbers of any length, as in a message


def item_for(address: str, variables: str | None, *, is_bulk: bool, public_url: str) -> Item:
    """A sample recipient; its links lead to pages that say they were not found."""
    link = f"{public_url}/u/preview" if is_bulk else ""
    web_version, preferences = f"{public_url}/w/preview", f"{public_url}/p/preview"
    return Item(NIL, address, variables, _DATED_AT, link, web_version_url=web_version, preferences_url=preferences)


async def rendered(
    channel: Channel, content: Content, renderer: Renderer, item: Item, version: int, identity: Identity | None = None
) -> Preview:
    """Make the message for one recipient, untracked, unsigned and without its files, and read it back.

    Raises:  Refused(render_failed) with what is missing; Unavailable when the renderer has no child process.
    """
    composer = channel.composer(replace(content, attachments=()), identity or _sample_of(channel), renderer)
    (made,) = await composer.compose([item])
    if isinstance(made, Unrenderable):
        raise Refused("render_failed", made.detail, field="/variables")
    if channel.key != "email":
        text = made.body.decode(errors="replace")
        return Preview(version, "", made.envelope_from, None, text, len(made.body), measured(channel, made.body))
    message = email.message_from_bytes(made.body, _class=EmailMessage, policy=email.policy.default)
    parts = {part.get_content_type(): part.get_content() for part in message.walk() if not part.is_multipart()}
    return Preview(
        version=version,
        subject=str(message["Subject"] or ""),
        sender=str(message["From"] or ""),
        html=parts.get("text/html"),
        text=parts.get("text/plain"),
        size_bytes=len(made.body),
    )


def _sample_of(channel: Channel) -> Identity:
    return _SAMPLES.get(channel.key, _SAMPLES["email"])


def measured(channel: Channel, body: bytes) -> MeasureView | None:
    """What a finished message comes to, where the channel counts in parts."""
    found = channel.measure(body)
    return None if found is None else MeasureView(**asdict(found))


async def page_of(
    channel: Channel, content: Content, renderer: Renderer, item: Item, identity: Identity | None = None
) -> str:
    """The message as a page for a browser.

    Raises:  Refused(render_failed) with what is missing.
    """
    made = await channel.composer(replace(content, attachments=()), identity or _sample_of(channel), renderer).page(
        item
    )
    if isinstance(made, Unrenderable):
        raise Refused("render_failed", made.detail, field="/variables")
    return made
