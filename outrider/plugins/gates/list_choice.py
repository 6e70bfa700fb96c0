"""List choice: what was queued for a list ends when its reader turns the list off in the preference centre.

A segment is no list, but whoever turned off what they got and is on nothing else on offer wants no campaigns: those to
segments pass over them too.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from outrider.contracts.gate import Block, Candidate, Fact, Gate, Lane, Verdict


@dataclass(frozen=True, slots=True)
class ListChoice(Gate):
    """Campaigns to a list pass over whoever turned it off, those to segments over whoever turned everything off.

    Also when their messages were queued before.
    """

    def concerns(self, lane: Lane) -> bool:
        """Campaigns alone."""
        return lane.campaign_id is not None

    def judge(self, fact: Fact, message: Candidate, now: datetime) -> Verdict:
        """Block: the facts hold only messages that were turned off; without a name everything was."""
        del message, now
        return Block(f"turned off by the recipient: {fact['name'] or 'everything on offer that they got'}")


GATE = ListChoice(
    key="list_choice",
    order=40,
    help=(
        "Blocks messages of campaigns to a list that the recipient turned off, and of those to segments when they "
        "turned off every list on offer that they got."
    ),
    is_asked_again=True,
    facts="""
        SELECT t.id AS message_id, off.name
        FROM unnest($2::uuid[], $3::uuid[], $4::text[], $7::text[]) AS t(id, contact_id, address, purpose)
        CROSS JOIN LATERAL (
          SELECT l.name FROM list_refusals r
          JOIN messages m ON m.tenant_id = $1 AND m.id = t.id
          JOIN campaigns c ON c.tenant_id = $1 AND c.id = m.campaign_id AND c.channel = $5
          LEFT JOIN lists l ON l.tenant_id = $1 AND l.id = c.list_id
          WHERE r.tenant_id = $1 AND r.contact_id = t.contact_id AND $6 = 'bulk'
            AND (c.list_id = r.list_id
                 OR (c.segment_id IS NOT NULL
                     AND NOT EXISTS (SELECT FROM list_members x
                                     JOIN list_offers o ON o.tenant_id = $1 AND o.list_id = x.list_id
                                     WHERE x.tenant_id = $1 AND x.contact_id = t.contact_id)))
          LIMIT 1
        ) off
    """,
)
