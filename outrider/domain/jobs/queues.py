"""Queues of jobs: limits, pause and resume, closing for a drain; audited in the installation's chain.

A paused queue takes jobs and begins none; a closed one takes none and goes on with what it has.
"""

from __future__ import annotations

import re
from datetime import datetime

import msgspec

from outrider.base.errors import Refused
from outrider.base.ids import NIL
from outrider.contracts.actor import Actor
from outrider.data.db import UnitOfWork
from outrider.domain.audit.append import append
from outrider.domain.jobs.rows import SQL
from outrider.domain.limits.reasons import clean_reason

MOST_AT_ONCE = 1000
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")


class Queue(msgspec.Struct, frozen=True):
    """One queue.

    concurrency         jobs at once over all processes; null: no limit
    worker_concurrency  jobs at once in one process; null: OUTRIDER_QUEUE_CONCURRENCY
    """

    name: str
    concurrency: int | None
    worker_concurrency: int | None
    paused_at: datetime | None
    paused_by: str | None
    pause_reason: str | None
    closed_at: datetime | None
    closed_by: str | None
    close_reason: str | None


async def listed(uow: UnitOfWork) -> list[Queue]:
    """Every queue, by name."""
    return [Queue(**dict(row.items())) for row in await SQL.queues.many(uow.raw)]


async def get(uow: UnitOfWork, name: str) -> Queue:
    """One queue.

    Raises:  Refused(unknown_queue).
    """
    for queue in await listed(uow):
        if queue.name == name:
            return queue
    raise _unknown(name)


async def set_concurrency(
    uow: UnitOfWork, actor: Actor, name: str, *, concurrency: int | None, worker_concurrency: int | None
) -> Queue:
    """Change the limits of a queue while it runs; within a second every process keeps to them (engine role).

    What is being run goes on; fewer are begun until the new limit is met.
    Raises:  Refused(unknown_queue, invalid_concurrency).
    """
    before = await _locked(uow, name)
    for field, value in (("/concurrency", concurrency), ("/worker_concurrency", worker_concurrency)):
        if value is not None and not 1 <= value <= MOST_AT_ONCE:
            raise Refused("invalid_concurrency", f"must be 1 to {MOST_AT_ONCE}", field=field)
    await SQL.queue_limits.run(uow.raw, name, concurrency, worker_concurrency)
    details = {
        "concurrency": [before.concurrency, concurrency],
        "worker_concurrency": [before.worker_concurrency, worker_concurrency],
    }
    await _told(uow, actor, "queue.concurrency", name, "not given", **details)
    return await get(uow, name)


async def pause(uow: UnitOfWork, actor: Actor, name: str, reason: str = "") -> Queue:
    """Begin no more jobs of a queue; what is being run goes on, what waits stays. The first reason is kept.

    Raises:  Refused(unknown_queue, invalid_reason).
    """
    before = await _locked(uow, name)
    why = clean_reason(reason)
    if before.paused_at is None:
        await SQL.queue_pause.run(uow.raw, name, actor.name, why)
    await _told(uow, actor, "queue.pause", name, why, changed=before.paused_at is None)
    return await get(uow, name)


async def resume(uow: UnitOfWork, actor: Actor, name: str, reason: str = "") -> Queue:
    """Let a queue begin jobs again, and take them again if its intake was closed."""
    before = await _locked(uow, name)
    why = clean_reason(reason)
    await SQL.queue_pause.run(uow.raw, name, None, None)
    await SQL.queue_close.run(uow.raw, name, None, None)
    changed = before.paused_at is not None or before.closed_at is not None
    await _told(uow, actor, "queue.resume", name, why, changed=changed, paused_reason=before.pause_reason)
    return await get(uow, name)


async def close(uow: UnitOfWork, actor: Actor, name: str, reason: str = "") -> Queue:
    """Take no new jobs: the first step of a drain. What waits and what runs goes on; `resume` opens it again."""
    before = await _locked(uow, name)
    why = clean_reason(reason)
    if before.closed_at is None:
        await SQL.queue_close.run(uow.raw, name, actor.name, why)
    await _told(uow, actor, "queue.close", name, why, changed=before.closed_at is None)
    return await get(uow, name)


async def add(uow: UnitOfWork, actor: Actor, name: str) -> Queue:
    """Make a queue, or give the one there is.

    Raises:  Refused(invalid_queue).
    """
    if not _NAME.fullmatch(name):
        raise Refused("invalid_queue", "must be 1 to 40 small letters, digits, - and _, a letter first", field="/name")
    if await SQL.queue_add.run(uow.raw, name):
        await _told(uow, actor, "queue.add", name, "not given")
    return await get(uow, name)


async def _locked(uow: UnitOfWork, name: str) -> Queue:
    row = await SQL.queue_lock.one(uow.raw, name)
    if row is None:
        raise _unknown(name)
    return Queue(**dict(row.items()))


async def _told(uow: UnitOfWork, actor: Actor, action: str, name: str, reason: str, **details: object) -> None:
    await SQL.queue_ring.value(uow.raw, name)
    await append(uow, actor, action=action, target=("queue", name), reason=reason, details=details, tenant_id=NIL)


def _unknown(name: str) -> Refused:
    return Refused("unknown_queue", f"there is no queue {name[:40]!r}", field="queue", status=404)
