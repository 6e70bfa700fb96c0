"""The settings of an SMTP account as data, and the checked value the rest of the package works with.

Owns the fields, their defaults and what cannot be said by a field alone; never connects.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from outrider.base.errors import Refused
from outrider.base.fields import Field

FIELDS: tuple[Field, ...] = (
    Field("host", "name or address of the mail server", is_required=True, longest=253),
    Field("port", "587 submission, 465 with tls=implicit, 25 relay", kind="integer", default=587, least=1, most=65535),
    Field(
        "tls",
        "required: STARTTLS with a verified certificate or nothing is sent; implicit: so from the first byte; "
        "opportunistic: encrypted when offered, the certificate is verified only if there is a password to protect; "
        "off: never encrypted",
        kind="choice",
        default="required",
        choices=("required", "opportunistic", "off", "implicit"),
    ),
    Field("username", "for AUTH PLAIN or LOGIN; empty: no authentication", default="", longest=320),
    Field("password", "for AUTH PLAIN or LOGIN", kind="secret"),
    Field("ehlo_name", "name given in EHLO; empty: this machine's, else its address", default="", longest=255),
    Field("connections", "most connections open at once", kind="integer", default=8, least=1, most=64),
    Field(
        "messages_per_connection",
        "a connection is replaced after so many messages",
        kind="integer",
        default=1000,
        least=1,
        most=1_000_000,
    ),
    Field("connect_timeout_s", "for TCP and implicit TLS", kind="number", default=10, least=0.05, most=300),
    Field(
        "command_timeout_s",
        "for each answer but the last, and for each part of a large body",
        kind="number",
        default=60,
        least=0.05,
        most=600,
    ),
    Field(
        "data_timeout_s",
        "for the answer to the final dot: servers may take 10 minutes (RFC 5321 4.5.3.2.6); giving up earlier "
        "leaves the message uncertain",
        kind="number",
        default=600,
        least=0.05,
        most=3600,
    ),
    Field(
        "allow_plaintext_auth",
        "send the password in the clear when tls is off; for loopback and closed networks only",
        kind="boolean",
        default=False,
    ),
)

_NAME = re.compile(r"(?=.{1,255}\Z)(?!-)[A-Za-z0-9_-]{1,63}(?:\.(?!-)[A-Za-z0-9_-]{1,63})*\Z")
_LITERAL = re.compile(r"\[(?:IPv6:[0-9A-Fa-f:.]{2,45}|[0-9.]{7,15})\]\Z")


@dataclass(frozen=True, slots=True)
class Account:
    """One SMTP account, checked and complete; times in seconds."""

    host: str
    port: int = 587
    tls: str = "required"
    username: str = ""
    password: str = field(default="", repr=False)
    ehlo_name: str = ""
    connections: int = 8
    messages_per_connection: int = 1000
    connect_timeout_s: float = 10
    command_timeout_s: float = 60
    data_timeout_s: float = 600
    allow_plaintext_auth: bool = False

    @property
    def is_verified(self) -> bool:
        """Whether the server's certificate must be right: always, but in opportunistic mode without a password."""
        return self.tls != "opportunistic" or bool(self.username)


def account_of(settings: Mapping[str, Any], secrets: Mapping[str, str]) -> Account:
    """Read what `fields.check` passed.

    Raises:  Refused naming `settings.ehlo_name` or `settings.password`.
    """
    names = {one.name for one in FIELDS if one.kind != "secret"}
    given = {name: value for name, value in settings.items() if name in names and value is not None}
    account = Account(password=secrets.get("password") or "", **given)
    if account.ehlo_name and not _NAME.match(account.ehlo_name) and not _LITERAL.match(account.ehlo_name):
        raise Refused("invalid_setting", "must be a host name or an address literal", field="settings.ehlo_name")
    if account.username and not account.password:
        raise Refused("required", "a username without a password cannot sign in", field="settings.password")
    return account


def ehlo_name(account: Account, local_address: str) -> str:
    """The name to say in EHLO: the setting, else this machine's full name, else its address (RFC 5321 4.1.4)."""
    if account.ehlo_name:
        return account.ehlo_name
    name = socket.gethostname()
    if "." in name and _NAME.match(name):
        return name
    return f"[IPv6:{local_address}]" if ":" in local_address else f"[{local_address}]"
