"""What the capture server can be told at start, and the addresses it gives back.

Owns the options, their bounds and the clear refusal of nonsense; never opens a port or a file.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from outrider.base.errors import Misconfigured
from outrider.interfaces.sandbox.rules import AnyRule

FsyncPolicy = Literal["none", "flush"]

_BOUNDS: dict[str, tuple[float, float]] = {
    "smtp_port": (0, 65_535),
    "smtps_port": (0, 65_535),
    "http_port": (0, 65_535),
    "max_message_bytes": (1_000, 1 << 30),
    "max_connections": (1, 50_000),
    "max_recipients": (1, 100_000),
    "max_errors": (1, 10_000),
    "longest_text_line_bytes": (0, 1 << 20),
    "idle_timeout_s": (0.1, 3_600),
    "handshake_timeout_s": (0.1, 600),
    "grace_s": (0, 600),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxOptions:
    """Everything the capture server can be told; the defaults suit the demo. Nothing is read from the environment."""

    ledger_path: Path
    """The JSON lines file; made when missing, continued when there. Bodies go to `<ledger>.bodies` beside it."""
    host: str = "127.0.0.1"
    """Address of all listeners. Nobody is asked who they are: another address than loopback is your decision."""
    smtp_port: int = 2525
    """Port of plain SMTP with STARTTLS; 0: a free one."""
    smtps_port: int | None = None
    """Port of SMTP inside TLS from the first byte; 0: a free one; None: none."""
    http_port: int | None = 8025
    """Port of the status pages and the inbox; 0: a free one; None: none."""
    http_hosts: tuple[str, ...] = ()
    """Names the inbox answers to besides `localhost` and plain IP addresses (against DNS rebinding)."""
    hostname: str = "sandbox.localhost"
    """What the greeting says, and the first name in the self-made certificate."""
    keeps_bodies: bool = False
    """Keep the bytes of every message, for the inbox and for tests that look at them."""
    fsync: FsyncPolicy = "none"
    """`none`: an answer survives kill -9 of the sandbox; `flush`: it survives a power cut too, and costs an fsync."""
    faults_path: Path | None = None
    """JSON file of fault rules, read again when it changes; may be missing, appear and disappear."""
    faults: tuple[AnyRule, ...] = ()
    """Fault rules that always hold, before those of the file."""
    credentials: Mapping[str, str] | None = field(default=None, repr=False)
    """User name to password. None: AUTH is not offered."""
    is_auth_required: bool = False
    """Refuse MAIL before AUTH (530)."""
    is_tls_required: bool = False
    """Refuse MAIL and AUTH before STARTTLS (530)."""
    is_starttls_offered: bool = True
    """Offer STARTTLS on the plain port."""
    certificate_path: Path | None = None
    """PEM chain; None: a certificate is made at start and written to `<ledger>.crt`, for clients to trust."""
    private_key_path: Path | None = None
    """PEM key of `certificate_path`."""
    max_message_bytes: int = 26_214_400
    """The SIZE that is advertised and enforced."""
    max_connections: int = 1_000
    """More are answered 421 and closed."""
    max_recipients: int = 1_000
    """More in one message are answered 452."""
    max_errors: int = 20
    """After so many commands in error a session is answered 421 and closed."""
    longest_text_line_bytes: int = 998
    """Longest line of a message without its CRLF [RFC 5321 4.5.3.1.6]; 0: not checked."""
    idle_timeout_s: float = 300.0
    """A session that sends nothing for so long is answered 421 and closed."""
    handshake_timeout_s: float = 30.0
    """A TLS handshake must be over by then."""
    grace_s: float = 5.0
    """After a stop, messages under way get so long to be finished."""

    def check(self) -> None:
        """Refuse options that cannot work.

        Raises:  Misconfigured naming the option.
        """
        for name, (least, most) in _BOUNDS.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise Misconfigured("invalid_option", f"must be from {least:g} to {most:g}, is {value}", field=name)
        try:
            ipaddress.ip_address(self.host)
        except ValueError as error:
            raise Misconfigured("invalid_option", "must be an IP address of this machine", field="host") from error
        if self.is_auth_required and not self.credentials:
            raise Misconfigured(
                "invalid_option", "is required by is_auth_required: nobody could sign in", field="credentials"
            )
        if (self.certificate_path is None) != (self.private_key_path is None):
            raise Misconfigured(
                "invalid_option", "certificate and key go together: give both or neither", field="private_key_path"
            )
        if self.is_tls_required and not self.is_starttls_offered and self.smtps_port is None:
            raise Misconfigured(
                "invalid_option",
                "TLS is required, but neither STARTTLS nor smtps_port offers it",
                field="is_tls_required",
            )
        if not self.hostname.isascii() or not self.hostname or any(c.isspace() for c in self.hostname):
            raise Misconfigured("invalid_option", "must be an ASCII host name", field="hostname")
        if self.fsync not in {"none", "flush"}:
            raise Misconfigured("invalid_option", "must be none or flush", field="fsync")


Endpoint = tuple[str, int]
"""Numeric address and port of a listener."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the running sandbox listens."""

    smtp: Endpoint
    smtps: Endpoint | None
    http: Endpoint | None
    certificate_path: Path
    """PEM file that a client must trust."""
