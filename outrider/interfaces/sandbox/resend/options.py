"""What the Resend-shaped sandbox is told at start, and the rules by which it fails."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec

from outrider.base.errors import Misconfigured

KEY = "re_sandbox"
SECRET = "whsec_c2FuZGJveC1zYW5kYm94LXNhbmRib3g="  # noqa: S105 - of a server that sends nothing to anybody


@dataclass(frozen=True, slots=True, kw_only=True)
class ResendOptions:
    """Everything it can be told."""

    ledger_path: Path
    """The JSON lines file; made when missing, continued when there."""
    host: str = "127.0.0.1"
    port: int = 8027
    """0: a free one."""
    api_key: str = field(default=KEY, repr=False)
    may_only_send: bool = False
    """The key is one that Resend calls restricted: it may neither list nor look."""
    domains: Mapping[str, str] = field(default_factory=dict)
    """Domain -> status; mail from others is refused. None named: every domain is verified."""
    requests_per_s: float = 0.0
    """More are answered 429; 0: no limit."""
    remembers_s: float = 86_400.0
    """How long a key is known."""
    webhook_url: str = ""
    """Where events are reported; empty: nowhere until it is told by PUT /sandbox/webhook."""
    webhook_secret: str = field(default=SECRET, repr=False)
    events: tuple[str, ...] = ("email.sent", "email.delivered")
    """Reported for each email, in this order."""
    callback_tries: int = 5
    """How often an event is tried until it is answered with 2xx."""


class Rule(msgspec.Struct, forbid_unknown_fields=True):
    """What happens to some requests; the first rule that fits one of the recipients decides.

    to             which recipients, with * and ?
    status, name   refuse with this HTTP status and error name; retry_after_s goes with it
    invalid        the emails that fit are invalid: alone of a batch where the request is permissive
    delay_s        read it later; hang_s: take it, and answer so much later
    cut            hang up: before the emails are taken, or after
    body           answer 200 with this instead of JSON
    same_id        give every email this id
    events         report these instead; bounce with email.bounced
    copies         send each event so often; order: in which order
    times, skip    how often it strikes, after how many requests it passed over
    """

    to: str = "*"
    status: int | None = None
    name: str | None = None
    retry_after_s: float | None = None
    invalid: bool = False
    delay_s: float = 0.0
    hang_s: float = 0.0
    cut: Literal["before", "after"] | None = None
    body: str | None = None
    same_id: str | None = None
    events: list[str] | None = None
    bounce: dict[str, str] | None = None
    copies: int = 1
    order: Literal["as sent", "reversed", "shuffled"] = "as sent"
    times: int | None = None
    skip: int = 0


def read_rules(text: bytes | str) -> list[Rule]:
    """Rules from JSON.

    Raises:  Misconfigured.
    """
    try:
        return msgspec.json.decode(text, type=list[Rule])
    except msgspec.DecodeError as error:
        raise Misconfigured("invalid_rules", str(error), field="rules") from None
