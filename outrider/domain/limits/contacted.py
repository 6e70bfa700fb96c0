"""Who was sent what: what counts for contacts, noted at the claim and taken back when it was not sent.

Owns table `contact_sends`; how many are too many is the gate's. What is taken back stands there before all time, where
it counts nowhere, until somebody has asked again about what is held for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from outrider.contracts.gate import Candidate, Lane
from outrider.domain.limits.rows import SPENDING as SQL

GATE = "frequency_cap"
"""What the reasons of messages held by the count begin with."""


@dataclass(frozen=True, slots=True)
class Freed:
    """Contacts and purposes, side by side, that fewer count for since; `count`: of how many attempts that was found."""

    count: int
    contacts: Sequence[UUID]
    purposes: Sequence[str]


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


async def give(raw: asyncpg.Connection, tenant_id: UUID, keep_id: UUID, other_id: UUID) -> None:
    """Count for one contact what another was sent: they are one person."""
    await SQL.contacted_give.run(raw, tenant_id, keep_id, other_id)


async def tenants_freed(raw: asyncpg.Connection) -> list[UUID]:
    """Tenants with attempts that were taken back, so that there may be room for others; of very many the first."""
    return [row["tenant_id"] for row in await SQL.contacted_freed_tenants.many(raw)]


async def freed(raw: asyncpg.Connection, tenant_id: UUID, *, most: int) -> Freed:
    """For whom there is room since attempts were taken back; each attempt is told once.

    Takes:   a transaction that has locked nothing yet: it waits for the tenant's claims that count, so that what they
             hold by what counted before can be seen.
    """
    await lock(raw, tenant_id)
    row = await SQL.contacted_freed.one(raw, tenant_id, most)
    return Freed(row["n"], row["contacts"], row["purposes"]) if row is not None else Freed(0, (), ())
