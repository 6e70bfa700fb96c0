"""Who was sent what: what counts for contacts, noted at the claim and taken back when it was not sent.

Owns table `contact_sends`; how many are too many is the gate's.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import asyncpg

from outrider.contracts.gate import Candidate, Lane
from outrider.domain.limits.rows import SPENDING as SQL


async def lock(raw: asyncpg.Connection, tenant_id: UUID) -> None:
    """Let the claims of a tenant count one after another, until this one is committed."""
    await SQL.contacted_lock.value(raw, tenant_id)


async def note(raw: asyncpg.Connection, lane: Lane, token: int, going: Sequence[Candidate]) -> None:
    """Note messages that go; those to addresses of no contact count for nobody."""
    await SQL.contacted_add.run(
        raw, lane.tenant_id, [each.id for each in going], token, [each.contact_id for each in going],
        [each.address for each in going], lane.channel, [each.purpose for each in going],
    )  # fmt: skip


async def release(raw: asyncpg.Connection, tenant_id: UUID, ids: Sequence[UUID], tokens: Sequence[int]) -> None:
    """Take back attempts that are known not to have been sent."""
    await SQL.contacted_take_back.run(raw, tenant_id, list(ids), list(tokens))


async def release_all(raw: asyncpg.Connection, tenant_id: UUID, ids: Sequence[UUID]) -> None:
    """Take back every attempt of messages that somebody found not to have been sent."""
    await SQL.contacted_take_back_all.run(raw, tenant_id, list(ids))
