"""Requests that a provider knows again by their key: written down before they are made, repeated if need be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from uuid import UUID

import asyncpg

from outrider.domain.messages.rows import KEYED

REPEATABLE_S: Final = 23 * 3600.0
"""Providers know a key for 24 hours; the last one is left alone."""


async def keep(
    raw: asyncpg.Connection, tenant_id: UUID, *, key: str, connection_id: UUID, ids: Sequence[UUID], token: int
) -> None:
    """Write down a request that is about to be made (engine role).

    Takes:   ids: its messages in order; token: the lease under which they are sent.
    """
    await KEYED.keep.run(raw, tenant_id, key, connection_id, list(ids), token, REPEATABLE_S)


async def forget(raw: asyncpg.Connection, tenant_id: UUID, ids: Sequence[UUID], tokens: Sequence[int]) -> None:
    """Forget requests of these leases, which are known not to have left; earlier ones of a message stay."""
    await KEYED.forget.run(raw, tenant_id, list(ids), list(tokens))


async def forget_all(raw: asyncpg.Connection, tenant_id: UUID, ids: Sequence[UUID]) -> None:
    """Forget the requests of messages that go again by themselves; what went along is not repeated any more either."""
    if ids:
        await KEYED.forget_all.run(raw, tenant_id, list(ids))


async def repeated_now(raw: asyncpg.Connection, tenant_id: UUID, ids: Sequence[UUID]) -> set[UUID]:
    """Which of some messages are on the wire at this moment, in a request that is made again; at most for a minute.

    Until the transaction ends nobody begins to repeat the requests of the others: they may be sent otherwise.
    """
    return {row["message_id"] for row in await KEYED.decide.many(raw, tenant_id, list(ids)) if row["is_taken"]}


async def made_under(
    raw: asyncpg.Connection, tenant_id: UUID, ids: Sequence[UUID], tokens: Sequence[int]
) -> dict[UUID, frozenset[UUID]]:
    """Of messages leased by somebody who died, those whose request is written down and can be repeated.

    Gives:   each with all messages of its request.
    """
    rows = await KEYED.made_under.many(raw, tenant_id, list(ids), list(tokens))
    if not rows:
        return {}
    found = await KEYED.together.many(raw, tenant_id, sorted({row["key"] for row in rows}))
    together = {row["key"]: frozenset(row["ids"]) for row in found}
    return {row["message_id"]: together[row["key"]] for row in rows}
