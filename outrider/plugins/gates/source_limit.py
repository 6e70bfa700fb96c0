"""Source limit: nobody gets the house to send texts to one country, or to one range of numbers, as often as they like.

Who asks for codes to numbers that earn by being written to does it by a form that anybody can fill in: a few sources,
many numbers in a row. Counted is what was accepted, stopped or not, so that whoever goes on stays stopped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Self

from outrider.base.fields import Field
from outrider.contracts.gate import PASS, Block, Candidate, Fact, Gate, Lane, Verdict

_MOST = 100_000


@dataclass(frozen=True, slots=True)
class SourceLimit(Gate):
    """Blocks texts of which too many were asked for by the same source, or for the same range of numbers."""

    per_source: int | None = None
    per_range: int | None = None
    minutes: int = 0

    def configured(self, settings: Mapping[str, Any]) -> Self:
        """Read how many in which time."""
        return replace(
            self,
            per_source=settings["sms_source_most"],
            per_range=settings["sms_range_most"],
            minutes=settings["sms_source_window_min"],
        )

    def concerns(self, lane: Lane) -> bool:
        """Texts of tenants that have a limit; those of campaigns have no source."""
        is_limited = self.per_source is not None or self.per_range is not None
        return is_limited and lane.channel == "sms" and lane.campaign_id is None

    def judge(self, fact: Fact, message: Candidate, now: datetime) -> Verdict:
        """Compare how many there were with it when it was accepted, by its source and to its range."""
        del message, now
        if self.per_source is not None and fact["of_source"] > self.per_source:
            where = f"to {fact['country'] or 'numbers of no country'}"
            return Block(f"more than {self.per_source} texts {where} in {self.minutes} min by {fact['source']}")
        if self.per_range is not None and fact["of_range"] > self.per_range:
            return Block(f"more than {self.per_range} texts to {fact['range']}… in {self.minutes} min")
        return PASS


GATE = SourceLimit(
    key="source_limit",
    order=16,
    help="Blocks texts when one source asks for too many to a country, or too many go to a range of numbers.",
    fields=(
        Field(
            "sms_source_most",
            "At most so many texts to one country that the same source asks for in the time; unset: no limit.",
            "integer",
            least=1,
            most=_MOST,
        ),
        Field(
            "sms_range_most",
            "At most so many texts to numbers that differ in their last three digits alone; unset: no limit.",
            "integer",
            least=1,
            most=_MOST,
        ),
        Field("sms_source_window_min", "The time, in minutes.", "integer", default=60, least=1, most=1440),
    ),
    facts="""
        SELECT s.message_id, s.source, s.country, s.range,
               (SELECT count(*) FROM (SELECT 1 FROM message_sources o
                WHERE o.tenant_id = $1 AND o.source = s.source AND o.country = s.country AND o.at > s.at - w.minutes
                  AND (o.at, o.message_id) <= (s.at, s.message_id) LIMIT w.per_source + 1) n) AS of_source,
               (SELECT count(*) FROM (SELECT 1 FROM message_sources o
                WHERE o.tenant_id = $1 AND o.range = s.range AND o.at > s.at - w.minutes
                  AND (o.at, o.message_id) <= (s.at, s.message_id) LIMIT w.per_range + 1) n) AS of_range
        FROM unnest($2::uuid[], $3::uuid[], $4::text[], $7::text[]) AS t(id, contact_id, address, purpose)
        JOIN message_sources s ON s.tenant_id = $1 AND s.message_id = t.id
        CROSS JOIN LATERAL (
          SELECT coalesce((x.settings ->> 'sms_source_window_min')::int, 60) * interval '1 minute' AS minutes,
                 -- whoever asks a hundred thousand times is counted no further than it takes to stop them
                 coalesce((x.settings ->> 'sms_source_most')::int, 0) AS per_source,
                 coalesce((x.settings ->> 'sms_range_most')::int, 0) AS per_range
          FROM tenants x WHERE x.id = $1
        ) w
        WHERE $5 = 'sms' AND $6::text IS NOT NULL -- every gate gets the same seven
    """,
)
