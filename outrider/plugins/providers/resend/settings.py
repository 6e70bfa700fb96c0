"""The settings of a Resend account as data, and the checked value the rest of the package works with."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from outrider.base.errors import Refused
from outrider.base.fields import Field
from outrider.base.web import base_url
from outrider.contracts.provider import Egress
from outrider.data.http_account import checked_base
from outrider.data.http_out import HttpOut

MESSAGE_TAG: Final = "outrider_message"
"""The tag that names our message in every event about it."""
SECRETS: Final = ("webhook_secret", "previous_webhook_secret")
_BASE: Final = "https://api.resend.com"

FIELDS: tuple[Field, ...] = (
    Field("api_key", "re_…, from the dashboard; one with full access can also be asked about domains and lost answers",
          kind="secret"),
    Field("webhook_secret", "whsec_…, of the webhook that reports here: verifies its events", kind="secret"),
    Field("previous_webhook_secret", "while the secret is rotated: events signed with it count too", kind="secret"),
    Field("base_url", "where the API is; the sandbox, for trying out", default=_BASE, longest=200),
    Field(
        "callback_base",
        "base address under which Resend reaches this installation; empty: OUTRIDER_PUBLIC_URL",
        default="",
        longest=200,
    ),
    Field(
        "domains",
        "domains that must be verified for the examination to pass, separated by commas; empty: any one",
        default="",
        longest=1000,
    ),
    Field("tags", "tags of every message: name=value, separated by commas", default="", longest=1000),
    Field("batch_size", "most messages in one request", kind="integer", default=100, least=1, most=100),
    Field(
        "requests_per_s",
        "most requests in a second, of all workers together; the limit that answers name is kept as well",
        kind="number",
        default=2,
        least=0.01,
        most=1000,
    ),
    Field("connections", "most requests at once", kind="integer", default=4, least=1, most=32),
    Field("connect_timeout_s", "for TCP and TLS", kind="number", default=10, least=0.05, most=60),
    Field("answer_timeout_s", "for an answer; then the request is repeated with its key", kind="number", default=20,
          least=0.05, most=120),
)  # fmt: skip

_TAG = re.compile(r"([A-Za-z0-9_-]{1,256})=([A-Za-z0-9_-]{1,256})")
_MOST_TAGS = 10


@dataclass(frozen=True, slots=True)
class Account:
    """One account, checked and complete; times in seconds."""

    base_url: str
    domains: tuple[str, ...]
    tags: tuple[tuple[str, str], ...]
    batch_size: int
    requests_per_s: float
    connections: int
    connect_timeout_s: float
    answer_timeout_s: float
    is_reported: bool
    authorization: str = field(repr=False)

    def http(self, egress: Egress) -> HttpOut:
        """Connections to the account."""
        return HttpOut(
            self.base_url,
            egress,
            headers={"Authorization": self.authorization, "Accept": "application/json", "User-Agent": "outrider"},
            connections=self.connections,
            connect_timeout_s=self.connect_timeout_s,
            answer_timeout_s=self.answer_timeout_s,
        )


def account_of(settings: Mapping[str, Any], secrets: Mapping[str, str]) -> Account:
    """Read what `fields.check` passed.

    Raises:  Refused naming the setting.
    """
    if not secrets.get("api_key"):
        raise Refused("required", "needs the key of the account", field="settings.api_key")
    if not secrets["api_key"].isascii() or not secrets["api_key"].isprintable():
        raise Refused("invalid_setting", "must be a key as the dashboard shows it", field="settings.api_key")
    for name in SECRETS:
        if secrets.get(name) and signing_key(secrets[name]) is None:
            raise Refused("invalid_setting", "must be whsec_ and base64", field=f"settings.{name}")
    base_url(settings.get("callback_base") or "", field="settings.callback_base")
    return Account(
        base_url=checked_base(settings.get("base_url") or _BASE),
        domains=tuple(name.strip().lower() for name in (settings.get("domains") or "").split(",") if name.strip()),
        tags=_tags(settings.get("tags") or ""),
        batch_size=settings.get("batch_size") or 100,
        requests_per_s=settings.get("requests_per_s") or 2,
        connections=settings.get("connections") or 4,
        connect_timeout_s=settings.get("connect_timeout_s") or 10,
        answer_timeout_s=settings.get("answer_timeout_s") or 20,
        is_reported=any(secrets.get(name) for name in SECRETS),
        authorization=f"Bearer {secrets['api_key']}",
    )


def signing_key(secret: str) -> bytes | None:
    """The bytes of a webhook's secret; None for what is none."""
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        return None
    return key or None


def _tags(text: str) -> tuple[tuple[str, str], ...]:
    found: dict[str, str] = {}
    for pair in filter(None, (piece.strip() for piece in text.split(","))):
        match = _TAG.fullmatch(pair)
        if match is None or match[1] == MESSAGE_TAG or len(found) == _MOST_TAGS:
            detail = f"must be at most {_MOST_TAGS} pairs name=value of letters, digits, _ and -, none {MESSAGE_TAG}"
            raise Refused("invalid_setting", detail, field="settings.tags")
        found[match[1]] = match[2]
    return tuple(found.items())
