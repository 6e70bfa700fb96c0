"""What became of one message: the protocol between a provider and the engine. Values, never exceptions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Retry = Literal["never", "by_hand", "schedule", "quarter_hour", "wait"]
"""Class of repetition: never; by hand only, because it had been taken and was dropped later; exponential back-off with
jitter; not before 15 minutes [S0-38, S0-39]; as soon as the account takes messages again, without an attempt being
counted [F53, F78]."""


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
              "correct the credentials of the sender's connection; its messages wait until they are right", "wait"),
        Cause("mailbox_unavailable", "Mailbox unavailable", "the recipient address is invalid",
              "remove the invalid address from the list", "never"),
        Cause("message_rejected", "Message rejected", "SPF, DKIM or content policy failure at the receiver",
              "check the DNS records (SPF, DKIM, DMARC) of the sender's domain", "never"),
        Cause("connection_timeout", "Connection timeout", "the SMTP server is overloaded",
              "retried by itself after 15 minutes", "quarter_hour"),
        Cause("api_unreachable", "Provider not reached", "network, firewall or DNS issue on the way to the provider's API",
              "check the way to its API with `outrider connection examine`; retried by itself", "schedule"),
        Cause("api_timeout", "Provider not reached in time", "the provider's API or the way to it is overloaded",
              "none: retried by itself with back-off; see the provider's status page if it persists", "schedule"),
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
              "inspect the message and mend what ends workers; then see `outrider poison list`, or `uncertain list` if it may have left", "never"),
        Cause("plugin_failed", "Plugin failed", "a channel or provider raised an error that is a bug, or settled nothing",
              "see the worker's log for the trace and report it to the plugin's makers", "schedule"),
        Cause("sender_unusable", "Sender unusable", "the sender's connection cannot be used as configured",
              "run `outrider doctor` and mend the connection", "schedule"),
        Cause("rate_limited", "Too many requests", "the provider slows this account down (429)",
              "none: retried by itself; lower the sender's rate if it persists", "schedule"),
        Cause("provider_down", "Provider unavailable", "the provider answered that it cannot serve now (5xx)",
              "none: retried by itself with back-off; see the provider's status page", "schedule"),
        Cause("request_refused", "Refused by the provider", "the provider does not take a request like this",
              "see the detail: the message or the sender's settings must change", "never"),
        Cause("number_invalid", "Invalid phone", "the number does not exist or takes no messages",
              "remove the number, or correct it in the list it came from", "never"),
        Cause("number_landline", "Landline", "the number is of the fixed network, or its carrier is not reached",
              "ask for a mobile number", "never"),
        Cause("opted_out", "Opted out", "the recipient answered STOP to this sender; it is on the do-not-contact list now",
              "none: only the recipient can opt in again, by answering START", "never"),
        Cause("region_not_allowed", "Country not enabled", "the account may not send to this country",
              "enable the country in the provider's messaging permissions, or leave it out", "never"),
        Cause("sender_not_usable", "Sender not usable", "the account cannot send from this number or name",
              "check that the number belongs to the account, and the messaging service's senders", "never"),
        Cause("sender_not_registered", "Sender not registered", "carriers demand a registration (A2P 10DLC, sender id) it lacks",
              "register the sender with the provider; resend after the approval", "never"),
        Cause("queue_overflow", "Queue overflow", "more was sent from this number than it can take in time",
              "none: retried by itself; spread the campaign over a pool of numbers", "schedule"),
        Cause("account_suspended", "Account suspended", "the provider suspended the account",
              "settle it with the provider; messages wait", "wait"),
        Cause("queue_overflow_late", "Dropped from a full queue", "taken, then dropped: more came from this number than it can send",
              "it has failed: send it again, and spread the campaign over a pool of numbers", "by_hand"),
        Cause("daily_quota_late", "Dropped over a quota", "taken, then dropped: the account's quota was used up",
              "it has failed: raise the plan at the provider, then send it again", "by_hand"),
        Cause("account_suspended_late", "Dropped by a suspension", "taken, then dropped: the provider suspended the account",
              "it has failed: settle it with the provider, then send it again", "by_hand"),
        Cause("dropped_by_provider", "Dropped by the provider", "taken, then dropped: too many at a time, or a fault of the provider",
              "it has failed: see the detail, then send it again", "by_hand"),
        Cause("handset_unreachable", "Handset unreachable", "the phone is off, out of reach or full",
              "it has failed: send it again later", "by_hand"),
        Cause("message_blocked", "Message blocked", "the recipient or the carrier blocks messages of this sender",
              "check consent; see the provider's log for the carrier's reason", "never"),
        Cause("handset_unknown", "Handset unknown", "the number is not in service any more; it is on the do-not-contact list now",
              "remove the number", "never"),
        Cause("content_filtered", "Filtered by the carrier", "the text looks like spam to the carrier",
              "change the text: no shared link shorteners, name the sender, show the way to opt out", "never"),
        Cause("carrier_unknown_error", "Unknown error at the carrier", "the carrier gave no reason",
              "none: send again later", "never"),
        Cause("validity_expired", "Expired at the provider", "it could not be delivered before its end of validity",
              "none, or give messages more time", "never"),
        Cause("cancelled_at_provider", "Cancelled at the provider", "somebody withdrew it there",
              "see the provider's log", "never"),
        Cause("idempotency_conflict", "Idempotency conflict", "the provider knows this key for another message",
              "report a bug with the id of the message", "never"),
        Cause("daily_quota", "Quota used up", "the account's quota of the day or month is used up",
              "raise the plan at the provider; messages wait", "wait"),
        Cause("domain_not_verified", "Domain not verified", "the sender's domain is not verified with the provider",
              "set the DNS records the provider asks for, then resend", "never"),
        Cause("complained", "Complaint", "the recipient marked it as spam; it is on the do-not-contact list now",
              "none: never write to them again", "never"),
        Cause("bounced_permanently", "Bounced", "the receiving server refused it for good",
              "remove the address", "never"),
        Cause("bounced_for_now", "Bounced for now", "the receiving server could not take it",
              "none: counts towards the limit of soft bounces", "never"),
    )
}  # fmt: skip
REFUSED = frozenset(cause.code for cause in CAUSES.values() if cause.retry == "wait")
"""Why an account is refused until somebody mends it: its messages wait, however long, and none counts as tried."""
OF_ACCOUNT = REFUSED | {"rate_limited"}
"""What concerns an account, whichever tenant has entered it. All else may be of one connection: its limits, its way."""


def told_late(cause: str) -> str:
    """The cause to keep when a provider says it of a message that it had taken before.

    Nobody here repeats that one: a cause that says so would promise what does not come.
    """
    if cause not in CAUSES or CAUSES[cause].retry in {"never", "by_hand"}:
        return cause
    late = f"{cause}_late"
    return late if late in CAUSES else "dropped_by_provider"


@dataclass(frozen=True, slots=True)
class Accepted:
    """The provider took responsibility. `provider_id` is its own id of the message, when it gave one."""

    provider_id: str | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Deferred:
    """Known not sent; may be tried again. `after_s` is the provider's own wish, if it had one.

    `is_soft`: because of the recipient's mailbox or handset; once it is given up, it counts as a soft bounce.
    """

    cause: str
    detail: str = ""
    after_s: float | None = None
    is_soft: bool = False


@dataclass(frozen=True, slots=True)
class Rejected:
    """Known not sent; never tried again.

    `suppress`: the reason for which the address belongs on the do-not-contact list, empty: it does not. `is_soft`: the
    recipient's mailbox or handset cannot be reached for now; it counts as a soft bounce.
    """

    cause: str
    detail: str = ""
    suppress: str = ""
    is_soft: bool = False


@dataclass(frozen=True, slots=True)
class Uncertain:
    """Handed over, answer lost: perhaps delivered, perhaps not.

    `is_keyed`: its request is written down under a key by which the provider knows it again: no further attempt is made
    of the message alone, whatever its sender promises; the request is repeated as it was.
    """

    cause: str
    detail: str = ""
    is_keyed: bool = False


@dataclass(frozen=True, slots=True)
class Unsent:
    """Nothing left the house: the engine withdrew the message before the write. Goes back where it was.

    `after_s`: not at once but held for so long, with the reason shown: a rate says so.
    """

    reason: str
    after_s: float | None = None


Outcome = Accepted | Deferred | Rejected | Uncertain | Unsent
