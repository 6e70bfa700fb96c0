"""What must hold of campaigns, whatever happened: one statement each, for `outrider data validate`."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg

from outrider.contracts.invariant import Finding, broken
from outrider.domain.campaigns.rows import VALIDATE

_CHECKS = (
    VALIDATE.i2_finished_with_open_messages,
    VALIDATE.i2_launched_without_lane,
    VALIDATE.i6_lane_of_another_tenant,
    VALIDATE.i8_expanded_count,
    VALIDATE.i7_recipient_of_a_later_wave,
    VALIDATE.i8_waves_cover_everybody,
    VALIDATE.i8_rest_gets_the_winner,
    VALIDATE.i9_order_of_moments,
)


async def validate(raw: asyncpg.Connection, *, most: int = 100) -> AsyncIterator[Finding]:
    """Rows that break an invariant (engine role); at most `most` per invariant."""
    async for finding in broken(raw, _CHECKS, most=most):
        yield finding
