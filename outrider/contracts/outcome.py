"""What became of one message: the protocol between a provider and the engine. Values, never exceptions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Retry = Literal["never", "schedule", "quarter_hour"]
"""Class of repetition: never; exponential back-off with jitter; not before 15 minutes [S0-38, S0-39]."""


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a message was not delivered, in the runbook's words, and what to do about it [S0-34 to S0-38]."""

    code: str
    title: str
    why: str
    remedy: str
    retry: Retry


CAUSES: dict[str, Cause] = {
    cause.code: cause
    for cause in (
        Cause("connection_failed", "SMTP connection failed", "network or firewall issue",
              "check SMTP server connectivity with `outrider doctor`", "schedule"),
        Cause("authentication_failed", "Authentication failed", "invalid credentials",
              "verify the SMTP password of the sender's connection", "schedule"),
        Cause("mailbox_unavailable", "Mailbox unavailable", "the recipient address is invalid",
              "remove the invalid address from the list", "never"),
        Cause("message_rejected", "Message rejected", "SPF, DKIM or content policy failure at the receiver",
              "check the DNS records (SPF, DKIM, DMARC) of the sender's domain", "never"),
        Cause("connection_timeout", "Connection timeout", "the SMTP server is overloaded",
              "retried by itself after 15 minutes", "quarter_hour"),
        Cause("server_deferred", "Deferred by server", "the server asked to try again later (4xx, greylisting)",
              "none: retried by itself with back-off", "schedule"),
        Cause("server_busy", "Server busy", "the server closed the session or limits connections (421)",
              "none: retried by itself; lower the connection limit if it persists", "schedule"),
        Cause("tls_failed", "TLS failed", "the certificate or the TLS handshake was not acceptable",
              "check the server's certificate and the TLS setting of the connection", "schedule"),
        Cause("tls_unavailable", "TLS not offered", "TLS is required and the server does not offer STARTTLS",
              "correct the port or the TLS setting; nothing was sent in the clear", "schedule"),
        Cause("smtputf8_unsupported", "Address needs SMTPUTF8", "the server cannot carry non-ASCII addresses",
              "use a provider that supports RFC 6531 or an ASCII address", "never"),
        Cause("eight_bit_unsupported", "8-bit content not supported", "the server does not offer 8BITMIME",
              "use a provider that supports RFC 6152 or write the message in ASCII", "never"),
        Cause("too_large", "Message too large", "larger than the server's SIZE limit",
              "shrink the message or its attachments", "never"),
        Cause("protocol_error", "Protocol error", "the server's answer was not SMTP",
              "check that host and port belong to a mail server", "schedule"),
        Cause("target_refused", "Target not allowed", "the server's address is private or loopback",
              "an operator may allow its network with OUTRIDER_EGRESS_ALLOW", "schedule"),
        Cause("answer_lost", "Answer lost", "the connection broke after the message was handed over",
              "see `outrider uncertain list`: resend or mark", "never"),
        Cause("render_failed", "Rendering failed", "the template could not be rendered for this recipient",
              "mend the template or the recipient's data", "never"),
        Cause("poison", "Poison message", "the message was being processed when its worker died, three times",
              "inspect the message; report a bug with its id", "never"),
        Cause("plugin_failed", "Plugin failed", "a channel or provider raised an error that is a bug, or settled nothing",
              "see the worker's log for the trace and report it to the plugin's makers", "schedule"),
        Cause("sender_unusable", "Sender unusable", "the sender's connection cannot be used as configured",
              "run `outrider doctor` and mend the connection", "schedule"),
    )
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Accepted:
    """The provider took responsibility. `provider_id` is its own id of the message, when it gave one."""

    provider_id: str | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Deferred:
    """Known not sent; may be tried again. `after_s` is the provider's own wish, if it had one."""

    cause: str
    detail: str = ""
    after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """Known not sent; never tried again."""

    cause: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Uncertain:
    """Handed over, answer lost: perhaps delivered, perhaps not."""

    cause: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Unsent:
    """Nothing left the house: the engine withdrew the message before the write. Goes back where it was."""

    reason: str


Outcome = Accepted | Deferred | Rejected | Uncertain | Unsent
