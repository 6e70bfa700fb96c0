"""Expiry: a message that is too old to be of use is not sent."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from outrider.contracts.gate import PASS, Block, Candidate, Fact, Gate, Verdict


@dataclass(frozen=True, slots=True)
class Expiry(Gate):
    """Past `expires_at` (by the database's clock) the message ends as expired."""

    def judge(self, fact: Fact, message: Candidate, now: datetime) -> Verdict:
        """Compare its end of validity with the claim's time."""
        del fact
        if message.expires_at is not None and message.expires_at <= now:
            return Block(f"valid until {message.expires_at.isoformat()}", state="expired")
        return PASS


GATE = Expiry(key="expiry", order=10, help="Ends messages whose time of validity is over.")
