"""What the Twilio-shaped sandbox is told at start, and the rules by which it fails."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec

from outrider.base.errors import Misconfigured

SID = "AC" + "0" * 32
TOKEN = "sandbox-token"  # noqa: S105 - of a server that sends nothing to anybody


@dataclass(frozen=True, slots=True, kw_only=True)
class TwilioOptions:
    """Everything it can be told. It asks for the account's credentials as Twilio does."""

    ledger_path: Path
    """The JSON lines file; made when missing, continued when there."""
    host: str = "127.0.0.1"
    port: int = 8026
    """0: a free one."""
    account_sid: str = SID
    auth_token: str = field(default=TOKEN, repr=False)
    statuses: tuple[str, ...] = ("queued", "sending", "sent", "delivered")
    """Reported for each message by callbacks, in this order."""
    checks_numbers: bool = True
    """Refuse recipients that are no E.164 numbers."""
    price_after_s: float = 0.0
    """So long after it was taken a message has no price yet."""
    callback_pause_s: float = 0.0
    callback_tries: int = 5
    """How often a callback is tried until it is answered with 2xx."""


class Rule(msgspec.Struct, forbid_unknown_fields=True):
    """What happens to some requests; the first rule that fits decides.

    to             which recipients, with * and ?
    status, code   refuse with this HTTP status and error code; retry_after_s goes with it
    delay_s        read it later; hang_s: take it, and answer so much later
    cut            hang up: before the message is taken, or after
    body           answer 201 with this instead of JSON
    same_sid       give every message this id
    statuses       report these instead; error_code with the last of them
    delivered_s    it waits for its phone so long; what is not valid for so long is given up (undelivered, 30036)
    price          what the message costs, such as "0.0150"; currency: in which; "" is never known
    copies         send each callback so often; order: in which order
    times, skip    how often it strikes, after how many it passed over
    """

    to: str = "*"
    status: int | None = None
    code: int | None = None
    retry_after_s: float | None = None
    delay_s: float = 0.0
    hang_s: float = 0.0
    cut: Literal["before", "after"] | None = None
    body: str | None = None
    same_sid: str | None = None
    statuses: list[str] | None = None
    error_code: int | None = None
    delivered_s: float | None = None
    price: str | None = None
    currency: str = "USD"
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
