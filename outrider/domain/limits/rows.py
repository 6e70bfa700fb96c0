"""The statements of switches, maintenance and buckets, loaded; and the two the claim runs on the raw connection."""

from __future__ import annotations

from uuid import UUID

import asyncpg

from outrider.data.sql import load

SQL = load(__package__)
VALIDATE = load(__package__, "validate.sql")
SPENDING = load(__package__, "spending.sql")
PACES = load(__package__, "paces.sql")


async def take(raw: asyncpg.Connection, tenant_id: UUID, scope: str, scope_id: UUID, asked: int) -> int | None:
    """Take up to `asked` tokens of a bucket inside the claim's transaction, after the pick and under the lane's lock.

    Takes:   scope `tenant` (scope_id the tenant's id), `sender`, `connection` (and what its account may, which other
             connections share) or `campaign`.
    Gives:   None where no bucket is configured (unlimited), 0 when nothing may go now, else 1..asked.
    Source:  docs/decisions (limits late): lane, queue rows, bucket of campaign, sender, connection, its account,
             tenant, always in this order.
    """
    granted: int | None = await SQL.bucket_take.value(raw, tenant_id, scope, scope_id, asked)
    if not granted or scope != "connection":
        return granted
    await PACES.account_open.run(raw, tenant_id, scope_id)
    of_account: int | None = await PACES.account_take.value(raw, tenant_id, scope_id, granted)
    if of_account is None or of_account == granted:
        return granted
    await SQL.bucket_return.run(raw, tenant_id, scope, scope_id, granted - of_account)
    return of_account


async def look(raw: asyncpg.Connection, tenant_id: UUID, scope: str, scope_id: UUID) -> tuple[int, float] | None:
    """What a bucket would give now and its rate per second, before the pick; None where there is none."""
    row = await SQL.bucket_look.one(raw, tenant_id, scope, scope_id)
    return None if row is None else (row["there"], row["rate"])


async def room(
    raw: asyncpg.Connection,
    tenant_id: UUID,
    campaign_id: UUID | None,
    sender_id: UUID,
    connection_id: UUID | None,
    *,
    slice_s: float,
    most: int,
) -> tuple[int, float] | None:
    """What all buckets of a lane together would give now, and in how many seconds a slice of it has come together.

    Takes:   connection_id: None where the connection has no bucket; slice_s, most: a slice is what comes together in so
             many seconds, and so many messages at most; half a burst at most, so that no bucket stays full meanwhile.
    Gives:   None where no bucket is configured; 0.0 seconds or less: it is there.
    """
    row = await PACES.room_look.one(raw, tenant_id, campaign_id, sender_id, connection_id, slice_s, most)
    return None if row is None or row["there"] is None else (row["there"], row["wait_s"])


async def give_back(raw: asyncpg.Connection, tenant_id: UUID, scope: str, scope_id: UUID, unused: int) -> None:
    """Return tokens that were taken and not used, in the same transaction."""
    if unused > 0:
        await SQL.bucket_return.run(raw, tenant_id, scope, scope_id, unused)
        if scope == "connection":
            await PACES.account_return.run(raw, tenant_id, scope_id, unused)
