"""Frequency cap: nobody gets more than so many messages of a purpose in a time, over all channels together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Self

from outrider.base.fields import Field
from outrider.contracts.gate import PASS, Candidate, Fact, Gate, Hold, Lane, Verdict

_MOST_H = 1440
_SOON = timedelta(minutes=1)
_NAME = r"[a-z][a-z0-9_]{0,39}"


@dataclass(frozen=True, slots=True)
class FrequencyCap(Gate):
    """Holds what would be one too many until the oldest of those that count is old enough."""

    cap: int | None = None
    window: timedelta = timedelta()
    purposes: frozenset[str] = frozenset()

    def configured(self, settings: Mapping[str, Any]) -> Self:
        """Read how many in which time."""
        purposes = (settings["frequency_purposes"] or "").split(",")
        return replace(
            self,
            cap=settings["frequency_cap"],
            window=timedelta(hours=settings["frequency_window_h"]),
            purposes=frozenset(purpose for purpose in purposes if purpose),
        )

    def concerns(self, lane: Lane) -> bool:
        """Every lane of a tenant that has a cap; which messages, their purpose says."""
        del lane
        return self.cap is not None

    def judge(self, fact: Fact, message: Candidate, now: datetime) -> Verdict:
        """Count what lies within the time, and those of this batch that go before this one."""
        if self.cap is None or message.purpose not in self.purposes:
            return PASS
        since = now - self.window
        counted = sorted(at for at in fact["sent_at"] if at > since)
        if len(counted) >= self.cap:  # until so many of the oldest are out of the time that there is room for one
            until = counted[len(counted) - self.cap] + self.window
            return Hold(until, f"{self.cap} for {message.purpose} in {self.window // timedelta(hours=1)} h are reached")
        if len(counted) + fact["place"] > self.cap:  # whether the others of this batch go, the next look knows
            return Hold(now + _SOON, f"another {message.purpose} goes to this contact at this moment")
        return PASS


GATE = FrequencyCap(
    key="frequency_cap",
    order=50,
    help="Holds messages to contacts who got as many of their purpose, over all channels, as may be in a time.",
    counts_contacts=True,
    fields=(
        Field(
            "frequency_cap",
            "At most so many messages of a purpose to a contact in the time, over all channels; unset: no limit.",
            "integer",
            least=1,
            most=1000,
            is_per_campaign=True,
        ),
        Field(
            "frequency_window_h",
            "The time, in hours.",
            "integer",
            default=168,
            least=1,
            most=_MOST_H,
            is_per_campaign=True,
        ),
        Field(
            "frequency_purposes",
            "Which purposes are counted, each for itself; separated by commas.",
            default="marketing",
            pattern=rf"({_NAME})(,({_NAME}))*",
            example="marketing,news",
        ),
    ),
    facts="""
        SELECT t.id AS message_id, s.sent_at,
               row_number() OVER (PARTITION BY c.contact_id, t.purpose ORDER BY t.ord) AS place
        FROM unnest($2::uuid[], $3::uuid[], $4::text[], $7::text[]) WITH ORDINALITY
             AS t(id, contact_id, address, purpose, ord)
        CROSS JOIN LATERAL (
          SELECT coalesce(t.contact_id, (
            SELECT a.contact_id FROM addresses a WHERE a.tenant_id = $1 AND a.channel = $5 AND a.address = t.address
          )) AS contact_id
        ) c
        CROSS JOIN LATERAL (
          SELECT coalesce(array_agg(n.at), '{}') AS sent_at
          FROM (SELECT at FROM contact_sends s
                WHERE s.tenant_id = $1 AND s.contact_id = c.contact_id AND s.purpose = t.purpose
                  AND s.message_id <> t.id -- an attempt of its own that may have left does not hold what repeats it
                  AND (s.contact_id, s.purpose, s.at) > (c.contact_id, t.purpose, now() - interval '1440 hours')
                -- bounded and ordered by the columns of one index: another would do as well while the table is empty,
                -- and is walked from end to end for every contact when it is not any more
                ORDER BY s.tenant_id DESC, s.contact_id DESC, s.purpose DESC, s.at DESC LIMIT 1000) n
        ) s
        WHERE c.contact_id IS NOT NULL
          AND $6::text IS NOT NULL -- every gate gets the same seven; the purpose decides here
    """,
)
