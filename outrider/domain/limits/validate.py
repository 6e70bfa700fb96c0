"""What must hold of limits, whatever happened: one statement each, for `outrider data validate`."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg

from outrider.contracts.invariant import Finding, broken
from outrider.domain.limits.rows import VALIDATE

_CHECKS = (
    VALIDATE.i5_switch_of_nothing,
    VALIDATE.i8_tokens_within_cap,
    VALIDATE.i8_warm_up_within_its_plan,
)


async def validate(raw: asyncpg.Connection, *, most: int = 100) -> AsyncIterator[Finding]:
    """Rows that break an invariant (engine role); at most `most` per invariant."""
    async for finding in broken(raw, _CHECKS, most=most):
        yield finding
