"""The ledger of the Twilio-shaped sandbox: one JSON line per request for a message, and per answer a phone got."""

from __future__ import annotations

from typing import Literal

import msgspec

from outrider.interfaces.sandbox.lines import Numbered

Outcome = Literal["accepted", "accepted_cut", "refused", "cut", "reply", "delivered", "given_up"]
TAKEN = frozenset({"accepted", "accepted_cut"})


class Entry(Numbered, kw_only=True):
    """One request as the server saw it; `accepted_cut`: taken, and nobody was told; `reply`: what a phone got.

    `delivered`, `given_up`: what became of one that had to wait for its phone.
    """

    at_ns: int
    outcome: Outcome
    to: str
    from_: str = msgspec.field(name="from")
    text: str
    sid: str = ""
    status: int = 0
    code: int | None = None
    messaging_service_sid: str = ""
    status_callback: str = ""
    validity_period: int | None = None
