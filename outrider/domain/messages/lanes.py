"""Lanes: what messages are queued by. Finds, makes and closes them."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import asyncpg

from outrider.contracts.gate import Lane, MessageClass
from outrider.data.db import UnitOfWork
from outrider.domain.messages.rows import SQL


async def lane_for(
    uow: UnitOfWork,
    *,
    tenant_id: UUID,
    channel: str,
    sender_id: UUID,
    campaign_id: UUID | None,
    message_class: MessageClass,
) -> int:
    """The open lane of this tenant, channel, sender, campaign and class; made when there is none.

    Takes:   a unit of work of the engine role.
    """
    key = (tenant_id, channel, sender_id, campaign_id, message_class)
    found = await SQL.lane_find.value(uow.raw, *key)
    return int(found if found is not None else await SQL.lane_make.value(uow.raw, *key))


async def directory(raw: asyncpg.Connection) -> list[Lane]:
    """Every open lane that has something ready, over all tenants, found along the index of what is ready."""
    return [_lane(row) for row in await SQL.lane_directory.many(raw)]


async def with_work(raw: asyncpg.Connection, known: Sequence[int]) -> list[Lane]:
    """The same, found by asking one open lane after the other.

    Takes:   known: lanes that have something for all that is known, and are not looked at.
    """
    return [_lane(row) for row in await SQL.lanes_with_work.many(raw, known)]


def _lane(row: asyncpg.Record) -> Lane:
    return Lane(row["tenant_id"], row["id"], row["channel"], row["sender_id"], row["campaign_id"], row["message_class"])
