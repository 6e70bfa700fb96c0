"""List choice: what was queued for a list ends when its reader turns the list off in the preference centre."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from outrider.contracts.gate import Block, Candidate, Fact, Gate, Verdict


@dataclass(frozen=True, slots=True)
class ListChoice(Gate):
    """Campaigns to a list pass over whoever turned it off, also when their messages were queued before."""

    def judge(self, fact: Fact, message: Candidate, now: datetime) -> Verdict:
        """Block: the facts hold only messages for lists that were turned off."""
        del message, now
        return Block(f"turned off by the recipient: {fact['name']}")


GATE = ListChoice(
    key="list_choice",
    order=40,
    help="Blocks messages of campaigns to a list that the recipient turned off.",
    is_asked_again=True,
    facts="""
        SELECT t.id AS message_id, off.name
        FROM unnest($2::uuid[], $3::uuid[], $4::text[], $7::text[]) AS t(id, contact_id, address, purpose)
        CROSS JOIN LATERAL (
          SELECT l.name FROM list_refusals r
          JOIN lists l ON l.tenant_id = r.tenant_id AND l.id = r.list_id
          JOIN campaigns c ON c.tenant_id = r.tenant_id AND c.list_id = r.list_id AND c.channel = $5
          JOIN messages m ON m.tenant_id = $1 AND m.id = t.id AND m.campaign_id = c.id
          WHERE r.tenant_id = $1 AND r.contact_id = t.contact_id AND $6 = 'bulk'
          LIMIT 1
        ) off
    """,
)
