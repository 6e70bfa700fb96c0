"""What the conformance suite needs to know about each channel: addresses, identities and contents, good and bad.

A new channel needs one entry in SAMPLES; the suite (tests/contract/test_channels.py) fails until it has one.
"""

from __future__ import annotations

import email
from collections.abc import Callable
from dataclasses import dataclass
from email import policy
from uuid import UUID

from outrider.contracts.channel import Content, Identity
from tests.kit import letters, texts


@dataclass(frozen=True)
class Samples:
    """One channel's samples. `addresses`: as typed -> as stored."""

    addresses: dict[str, str]
    bad_addresses: tuple[str, ...]
    identity: Identity
    bad_identities: tuple[Identity, ...]
    contents: tuple[Content, ...]
    """Each mentions the variable `name`; literal ones do not."""
    bad_contents: tuple[Content, ...]
    unrenderable: Content
    """Renders for most variables, but not for `{"name": 5}`."""
    meaning: Callable[[bytes], object]
    """What a recipient's program makes of the bytes, however they are encoded."""
    way_out: Callable[[str], bytes] = str.encode
    """What a bulk message shows of the way out, given its link."""


def _meaning_of_email(body: bytes) -> object:
    message = email.message_from_bytes(body, policy=policy.default)
    parts = [(part.get_content_type(), part.get_content()) for part in message.walk() if not part.is_multipart()]
    names = ("From", "To", "Subject", "Date", "Message-ID", "List-Unsubscribe", "Reply-To")
    return [(name, message[name]) for name in names], parts


SAMPLES = {
    "email": Samples(
        addresses={
            "ann@example.org": "ann@example.org",
            "Ann@EXAMPLE.org": "ann@example.org",
            "a+b@sub.example.org": "a+b@sub.example.org",
        },
        bad_addresses=("", "x", "@example.org", "a@", "a b@example.org", "a@example.org\nBcc: b@c", "a@b@c", "a" * 400),
        identity=letters.identity(),
        bad_identities=(
            letters.identity(from_address="x"),
            letters.identity(reply_to="a@b\r\nBcc: c@d"),
            letters.identity(from_name="x\ny"),
        ),
        contents=(
            letters.content(),
            letters.content(html=None),
            letters.content(text=None),
            letters.content(subject="{% if name %}Hello {{ name }}{% else %}Hello{% endif %}", text="{{ name|upper }}"),
            letters.content("Hello", "<p>Hello</p>", "Hello {{ name }}", is_template=False),
        ),
        bad_contents=(
            letters.content(subject="{{ name"),
            letters.content(html="<p>{% for x in %}</p>"),
            letters.content(text="{{ name|no_such_filter }}"),
        ),
        unrenderable=letters.content(text="{{ name.first.second }} {{ name }}", html=None),
        meaning=_meaning_of_email,
    ),
    "sms": Samples(
        addresses={
            "+14155552671": "+14155552671",
            "+1 (415) 555-2671": "+14155552671",
            "+610412345678": "+61412345678",
            "+39 06 1234567": "+39061234567",
        },
        bad_addresses=("", "x", "+", "4155552671", "whatsapp:+14155552671", "+14155552671\r\nX: 1", "+1" + "4" * 400),
        identity=texts.identity(),
        bad_identities=(
            texts.identity("x" * 12),
            texts.identity(from_name="x\ny"),
            Identity(UUID(int=7), "+14155550100", reply_to="a@example.org"),
        ),
        contents=(
            texts.content(),
            texts.content("{% if name %}Hello {{ name }}{% else %}Hello{% endif %}"),
            texts.content("{{ name|default('x') }}: 5 < 6 & {{ name|upper }}"),
            texts.content("Hello {{ name }}", is_template=False),
        ),
        bad_contents=(texts.content("{{ name"), texts.content("{{ name|no_such_filter }}"), texts.content("   ")),
        unrenderable=texts.content("{{ name.first.second }} {{ name }}"),
        meaning=bytes.decode,
        way_out=lambda _url: b"Reply STOP to opt out",
    ),
}
