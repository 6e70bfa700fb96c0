"""Do-not-contact: nobody who said stop, bounced hard or complained is written to [S1-37 to S1-42]."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from outrider.contracts.gate import Block, Candidate, Fact, Gate, Verdict


@dataclass(frozen=True, slots=True)
class DoNotContact(Gate):
    """A suppression of the tenant or the installation blocks; scope `bulk` leaves transactional messages through."""

    def judge(self, fact: Fact, message: Candidate, now: datetime) -> Verdict:
        """Block: the facts hold only suppressed messages."""
        del message, now
        return Block(f"do not contact: {fact['reason']}")


GATE = DoNotContact(
    key="do_not_contact",
    order=20,
    help="Blocks addresses on the tenant's or the installation's do-not-contact list.",
    is_asked_again=True,
    facts="""
        SELECT t.id AS message_id, s.reason
        FROM unnest($2::uuid[], $3::uuid[], $4::text[], $7::text[]) AS t(id, contact_id, address, purpose)
        CROSS JOIN LATERAL (
          SELECT reason FROM suppressions s
          WHERE s.tenant_id IN ($1, '00000000-0000-0000-0000-000000000000') AND s.channel = $5
            AND s.address_hash = sha256(convert_to(t.address, 'UTF8')) AND (s.scope = 'all' OR $6 = 'bulk')
          LIMIT 1
        ) s
    """,
)
