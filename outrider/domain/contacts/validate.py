"""What must hold of contacts, whatever happened: one statement each, for `outrider data validate`."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg

from outrider.contracts.invariant import Finding, broken
from outrider.domain.contacts.rows import VALIDATE

_CHECKS = (
    VALIDATE.i5_consent_without_proof,
    VALIDATE.i5_member_of_refused_list,
    VALIDATE.i6_list_of_another_tenant,
    VALIDATE.i8_import_counts,
    VALIDATE.i8_dry_run_left_keys,
)


async def validate(raw: asyncpg.Connection, *, most: int = 100) -> AsyncIterator[Finding]:
    """Rows that break an invariant (engine role); at most `most` per invariant."""
    async for finding in broken(raw, _CHECKS, most=most):
        yield finding
