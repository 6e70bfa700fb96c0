"""Kill switch: nothing of a paused installation, tenant, channel, sender or campaign is claimed [S1-11 to S1-14]."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from outrider.contracts.gate import Allowance, Fact, Gate, Lane


@dataclass(frozen=True, slots=True)
class KillSwitch(Gate):
    """A row in `switches` that covers the lane stops it; its messages stay queued."""

    def allow(self, lane: Lane, facts: Sequence[Fact], asked: int) -> Allowance:
        """Nothing while any switch is on."""
        del lane
        if facts:
            return Allowance(0, f"paused: {facts[0]['scope']}: {facts[0]['reason']}")
        return Allowance(asked)


GATE = KillSwitch(
    key="kill_switch",
    order=0,
    help="Stops what is paused: the installation, a tenant, a channel, a sender or a campaign.",
    is_switch=True,
    lane_facts="""
        SELECT scope, reason FROM switches
        WHERE (tenant_id = $1 OR tenant_id = '00000000-0000-0000-0000-000000000000')
          AND (scope IN ('installation', 'tenant') OR (scope = 'channel' AND scope_id = $2)
               OR (scope = 'sender' AND scope_id = $3::uuid::text)
               OR (scope = 'campaign' AND scope_id = $4::uuid::text))
        LIMIT 1
    """,
)
