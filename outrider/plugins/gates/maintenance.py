"""Maintenance: while the installation is in maintenance nothing is claimed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from outrider.contracts.gate import Allowance, Fact, Gate, Lane


@dataclass(frozen=True, slots=True)
class Maintenance(Gate):
    """The installation's maintenance mark stops every lane; messages stay queued."""

    def allow(self, lane: Lane, facts: Sequence[Fact], asked: int) -> Allowance:
        """Nothing while maintenance is on."""
        del lane
        if facts:
            return Allowance(0, f"maintenance: {facts[0]['reason']}")
        return Allowance(asked)


GATE = Maintenance(
    key="maintenance",
    order=1,
    help="Stops everything while the installation is in maintenance.",
    is_switch=True,
    lane_facts="""
        SELECT maintenance_reason AS reason FROM installation
        WHERE maintenance_since IS NOT NULL
          AND num_nulls($1::uuid, $2::text, $3::uuid, $4::uuid) >= 0 -- every gate gets the same four; none matters here
    """,
)
