"""The settings of a Twilio account as data, and the checked value the rest of the package works with."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from outrider.base.errors import Refused
from outrider.base.fields import Field
from outrider.base.web import base_url, is_local_host
from outrider.contracts.callbacks import CALLBACK_URL
from outrider.data.http_account import checked_base

FIELDS: tuple[Field, ...] = (
    Field("account_sid", "AC and 32 digits and letters, from the console", is_required=True, longest=34),
    Field("auth_token", "the account's token: signs in, and verifies callbacks", kind="secret"),
    Field("previous_auth_token", "while the token is rotated: callbacks signed with it count too", kind="secret"),
    Field("api_key_sid", "SK…: sign in with this key instead of the token", default="", longest=34),
    Field("api_key_secret", "the secret of api_key_sid", kind="secret"),
    Field(
        "messaging_service_sid",
        "MG…: send through this service; the sender's number must be one of its senders",
        default="",
        longest=34,
    ),
    Field("base_url", "where the API is; the sandbox, for trying out", default="https://api.twilio.com", longest=200),
    Field(
        "callbacks",
        "ask for a report of what became of each message; needs OUTRIDER_PUBLIC_URL to be reachable",
        kind="boolean",
        default=True,
    ),
    Field(
        "callback_base",
        "base address under which Twilio reaches this installation; empty: OUTRIDER_PUBLIC_URL",
        default="",
        longest=200,
    ),
    Field(
        "validity_s",
        "a text that could not be handed to the carrier for so long is given up; shorter where the message expires",
        kind="integer",
        default=14_400,
        least=1,
        most=36_000,
    ),
    Field("connections", "most requests at once", kind="integer", default=8, least=1, most=100),
    Field("connect_timeout_s", "for TCP and TLS", kind="number", default=10, least=0.05, most=60),
    Field(
        "answer_timeout_s",
        "for the answer: giving up earlier leaves the message uncertain",
        kind="number",
        default=20,
        least=0.05,
        most=120,
    ),
)

_SID = {"account_sid": "AC", "api_key_sid": "SK", "messaging_service_sid": "MG"}


@dataclass(frozen=True, slots=True)
class Account:
    """One account, checked and complete; times in seconds."""

    account_sid: str
    messaging_service_sid: str
    base_url: str
    callback_url: str
    validity_s: int
    connections: int
    connect_timeout_s: float
    answer_timeout_s: float
    authorization: str = field(repr=False)

    @property
    def path(self) -> str:
        """The account's resource."""
        return f"/2010-04-01/Accounts/{self.account_sid}"


def account_of(settings: Mapping[str, Any], secrets: Mapping[str, str]) -> Account:
    """Read what `fields.check` passed.

    Raises:  Refused naming the setting.
    """
    for name, prefix in _SID.items():
        text = settings.get(name) or ""
        if text and not re.fullmatch(rf"{prefix}[0-9a-zA-Z]{{32}}", text):
            raise Refused("invalid_setting", f"must be {prefix} and 32 letters and digits", field=f"settings.{name}")
    user, password = settings["account_sid"], secrets.get("auth_token")
    if settings.get("api_key_sid"):
        user, password = settings["api_key_sid"], secrets.get("api_key_secret")
        if not password:
            raise Refused("required", "a key needs its secret", field="settings.api_key_secret")
    if not password:
        raise Refused("required", "needs the token, or a key and its secret", field="settings.auth_token")
    base_url(settings.get("callback_base") or "", field="settings.callback_base")
    return Account(
        account_sid=settings["account_sid"],
        messaging_service_sid=settings.get("messaging_service_sid") or "",
        base_url=checked_base(settings.get("base_url") or "https://api.twilio.com"),
        callback_url=_callback_url(settings),
        validity_s=settings.get("validity_s") or 14_400,
        connections=settings.get("connections") or 8,
        connect_timeout_s=settings.get("connect_timeout_s") or 10,
        answer_timeout_s=settings.get("answer_timeout_s") or 20,
        authorization="Basic " + base64.b64encode(f"{user}:{password}".encode()).decode(),
    )


def _callback_url(settings: Mapping[str, Any]) -> str:
    """Where Twilio is to report; not to this machine, unless what answers like Twilio runs on it as well.

    Twilio refuses messages that name an address it cannot reach.
    """
    url = (settings.get(CALLBACK_URL) or "") if settings.get("callbacks", True) else ""
    is_near = is_local_host(urlsplit(settings.get("base_url") or "").hostname or "")
    return "" if is_local_host(urlsplit(url).hostname or "") and not is_near else url
