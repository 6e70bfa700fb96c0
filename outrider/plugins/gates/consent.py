"""Consent: bulk messages go only to contacts who granted it for this channel and purpose [S1-52]."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from outrider.base.fields import Field
from outrider.contracts.gate import Block, Candidate, Fact, Gate, Verdict


@dataclass(frozen=True, slots=True)
class Consent(Gate):
    """Bulk needs granted consent; a purpose that was withdrawn is blocked for transactional messages as well."""

    def judge(self, fact: Fact, message: Candidate, now: datetime) -> Verdict:
        """Block: the facts hold only messages without consent."""
        del now
        what = "withdrawn" if fact["status"] == "withdrawn" else "not given"
        return Block(f"consent {what} for {message.purpose}")


GATE = Consent(
    key="consent",
    order=30,
    help="Blocks bulk messages to contacts without consent for channel and purpose.",
    is_asked_again=True,
    fields=(
        Field("consent_required", "Bulk messages need recorded consent (tenant setting).", "boolean", default=True),
    ),
    facts="""
        SELECT t.id AS message_id, c.status
        FROM unnest($2::uuid[], $3::uuid[], $4::text[], $7::text[]) AS t(id, contact_id, address, purpose)
        LEFT JOIN LATERAL (
          SELECT status FROM consents c
          WHERE c.tenant_id = $1 AND c.contact_id = t.contact_id AND c.channel = $5 AND c.purpose = t.purpose
          LIMIT 1
        ) c ON true
        WHERE c.status = 'withdrawn'
           OR (c.status IS NULL AND $6 = 'bulk'
               AND (SELECT coalesce((settings ->> 'consent_required')::boolean, true) FROM tenants WHERE id = $1))
    """,
)
