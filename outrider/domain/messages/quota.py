"""The quota of open messages: how many a tenant, and all tenants together, may have waiting.

Owns who is let in and the words for who is not; counting is the fold's (queries.sql fold_rollups). Bulk messages may
fill only a share of a quota, transactional ones all of it: a backlog of marketing never keeps a password reset out.
Nothing that was accepted is ever taken back. How full quotas are, and setting them, is fills.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import asyncpg

from outrider.base.errors import OutriderError, Refused, Unavailable
from outrider.contracts.gate import MessageClass
from outrider.domain.messages.rows import QUOTA

MOST_IN_ALL: Final = 10_000_000
MOST_PER_TENANT: Final = 5_000_000
BULK_PERCENT: Final = 80
NEAR: Final = 100_000
"""Less room than this is measured exactly; more cannot be filled between two folds."""

TENANT_FULL: Final = "tenant_queue_full"
FULL: Final = "queue_full"
FULL_CODES: Final = frozenset({TENANT_FULL, FULL})
REFUSALS: Final = (
    "outrider_submissions_refused_total",
    "Submissions refused because a quota of open messages was full, the tenant's or the installation's.",
)
"""Name and meaning of the figure that every door counts."""
_AGAIN_AFTER_S: Final = 15
_FAN_OUT_SHARE: Final = 20


@dataclass(slots=True)
class Limit:
    """One quota while messages are let in: `count` are open, `most` may be."""

    count: int
    most: int
    bulk_percent: int

    def most_of(self, message_class: MessageClass) -> int:
        """Up to how many open messages one of this class is let in."""
        return self.most if message_class == "transactional" else self.most * self.bulk_percent // 100

    def room(self, message_class: MessageClass) -> int:
        """How many of a class may still come in; never less than 0."""
        return max(0, self.most_of(message_class) - self.count)


@dataclass(slots=True)
class Room:
    """The quotas that a transaction is bound by: its tenant's, and the installation's."""

    tenant: Limit
    in_all: Limit

    def take(self, message_class: MessageClass, count: int = 1) -> OutriderError | None:
        """Take places for messages; gives why there are too few, then none is taken."""
        if self.tenant.room(message_class) < count:
            return _tenant_full(self.tenant, message_class, count)
        if self.in_all.room(message_class) < count:
            return _full(self.in_all, message_class)
        self.tenant.count += count
        self.in_all.count += count
        return None

    def page(self, most: int) -> tuple[int, str]:
        """How many bulk messages a fan-out may queue now, and what it waits for where that is none.

        It goes on when a twentieth of the quota is free, so that it does not trickle.
        """
        for limit, whose in ((self.tenant, "this tenant's"), (self.in_all, "the installation's")):
            bound = limit.most_of("bulk")
            if limit.room("bulk") < min(most, max(1, bound // _FAN_OUT_SHARE)):
                return 0, (
                    f"waits for room: {whose} queue holds {limit.count:,} messages and takes bulk ones up to "
                    f"{bound:,}; goes on by itself"
                )
        return min(most, self.tenant.room("bulk"), self.in_all.room("bulk")), ""


async def room_of(raw: asyncpg.Connection, tenant_id: UUID, message_class: MessageClass = "bulk") -> Room:
    """The room there is for a tenant's messages (engine role).

    Takes:   message_class: bulk, unless nothing but transactional messages are to be let in.
    Gives:   exact but for what other transactions are letting in at this moment, where there is little room; else as of
             the last fold, a second ago.
    Source:  docs/how-to/queue-full.md, decisions/0030
    """
    return await near(raw, tenant_id, read(await QUOTA.open_room.one(raw, tenant_id)), message_class)


async def near(raw: asyncpg.Connection, tenant_id: UUID, room: Room, message_class: MessageClass) -> Room:
    """Measure exactly where there is little room; as `room_of`."""
    if room.tenant.room(message_class) < NEAR:
        room.tenant.count = await QUOTA.open_now.value(raw, tenant_id)
    if room.in_all.room(message_class) < NEAR:
        room.in_all.count = await QUOTA.open_now_in_all.value(raw)
    return room


async def require(raw: asyncpg.Connection, tenant_id: UUID, message_class: MessageClass, count: int) -> None:
    """Let messages of one class in, all or none.

    Raises:  Refused(tenant_queue_full, 429), Unavailable(queue_full).
    """
    refusal = (await room_of(raw, tenant_id, message_class)).take(message_class, count)
    if refusal is not None:
        raise refusal


def read(row: Mapping[str, Any] | None) -> Room:
    """The room as a row of `open_room` tells it. Raises Refused(not_found)."""
    if row is None:
        raise Refused("not_found", "no such tenant", status=404)
    most, most_in_all, percent = bounds(row)
    if row["own_most"] is not None:
        most = row["own_most"]
    here = row["transactional"] + row["bulk"]
    return Room(Limit(here, most, percent), Limit(row["in_all"], most_in_all, percent))


def bounds(row: Mapping[str, Any]) -> tuple[int, int, int]:
    """What holds for a tenant without a quota of its own, for all, and the share of bulk; presets where unset."""
    return (
        MOST_PER_TENANT if row["tenant_most"] is None else row["tenant_most"],
        MOST_IN_ALL if row["most_in_all"] is None else row["most_in_all"],
        BULK_PERCENT if row["bulk_percent"] is None else row["bulk_percent"],
    )


def _tenant_full(limit: Limit, message_class: MessageClass, count: int) -> Refused:
    most = limit.most_of(message_class)
    return Refused(
        TENANT_FULL,
        f"{limit.count:,} messages of this tenant are waiting, {message_class} ones are taken up to {most:,}"
        f"{_share(limit, message_class)}, this call brings {count:,}: repeat it when some have gone, cancel what is "
        "not wanted, or ask the operator for a higher quota",
        status=429,
        retry_after_s=_AGAIN_AFTER_S,
        message_class=message_class,
        open_count=limit.count,
        most_count=most,
    )


def _full(limit: Limit, message_class: MessageClass) -> Unavailable:
    return Unavailable(
        FULL,
        f"the queue of this installation is full for {message_class} messages{_share(limit, message_class)}: repeat "
        "the call when some have gone; the operator sees what fills it with `outrider quota`",
        retry_after_s=_AGAIN_AFTER_S,
    )


def _share(limit: Limit, message_class: MessageClass) -> str:
    if message_class == "transactional":
        return ""
    return f" ({limit.bulk_percent} percent of the quota; the rest is kept for transactional ones)"
