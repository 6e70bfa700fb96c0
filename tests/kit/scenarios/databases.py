"""Drills about the database: stopped and crashed while clients submit and workers send.

Each gives what the checker found: nothing with the product as it is, something with a seeded defect (`drill.defect`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from outrider.base.errors import Unavailable
from tests.kit.cluster import Cluster
from tests.kit.drill import Drill, Sender
from tests.kit.processes import Process
from tests.kit.scenarios.journals import lose_the_end

CONNECTIONS = 4
_BATCH = 20
_DOWN_S = 1.0


@asynccontextmanager
async def submitting(drill: Drill, *senders: Sender) -> AsyncIterator[None]:
    """A client that submits batch after batch, tries again when told to, and writes down what was acknowledged."""
    is_over = asyncio.Event()

    async def submit() -> None:
        while not is_over.is_set():
            for sender in senders:
                with suppress(Unavailable):
                    await drill.admit(sender, _BATCH)
            await asyncio.sleep(0.05)

    task = asyncio.create_task(submit())
    try:
        yield
    finally:
        is_over.set()
        await task


async def goes_away(drill: Drill, cluster: Cluster, end: Callable[[], None], *, times: int) -> list[str]:
    """F26, F27: the database is stopped or crashes again and again under load; nobody exits, everything is there.

    A lost connection leaves each worker's own journal whole: what it had begun it finishes recording by itself.
    """
    workers = [await drill.worker() for _ in range(2)]
    senders = [await drill.sender("at_most_once", connections=CONNECTIONS) for _ in range(2)]
    async with submitting(drill, *senders):
        for _ in range(times):
            await drill.accepted(100)
            await asyncio.to_thread(end)
            await asyncio.sleep(_DOWN_S)
            await asyncio.to_thread(cluster.start)
            await drill.reconnect()
        await drill.accepted(100)
    assert all(worker.lives() for worker in workers), "no worker exits because the database was away"
    await drill.drained(bound_s=120)
    return await drill.violations()


async def power_is_lost(drill: Drill, cluster: Cluster) -> list[str]:
    """F20: everything ends at once and the machine starts again: another boot, the ends of the journals are lost."""
    senders = [
        await drill.sender(guarantee, connections=CONNECTIONS) for guarantee in ("at_least_once", "at_most_once")
    ]
    drill.faults({"action": "slow", "stage": "dot", "delay_ms": 10})
    workers: list[Process] = [await drill.worker() for _ in range(2)]
    async with submitting(drill, *senders):
        await drill.accepted(150)
        for worker in workers:
            worker.kill()
        await asyncio.to_thread(cluster.crash)
    for journal in (drill.folder / "data" / "journals").glob("*.journal"):
        lose_the_end(journal)
    await asyncio.to_thread(cluster.start)
    await drill.reconnect()
    leased = await drill.rows(
        "SELECT s.bulk_guarantee, count(*) FROM queue q JOIN lanes l ON l.id = q.lane_id"
        " JOIN senders s ON s.id = l.sender_id WHERE q.state = 1 GROUP BY 1"
    )
    in_doubt: dict[str, int] = dict(leased)
    await drill.worker()
    await drill.drained(bound_s=120)
    return await drill.violations(
        duplicates=in_doubt.get("at_least_once", 0), uncertain=in_doubt.get("at_most_once", 0)
    )


async def crash_after_the_answer(drill: Drill, cluster: Cluster) -> list[str]:
    """F27 at its sharpest: the database crashes directly after it has acknowledged, with a writer of WAL that rests."""
    sender = await drill.sender("at_most_once")
    for _ in range(30):
        await drill.admit(sender, 1)
    await asyncio.to_thread(cluster.crash)
    await asyncio.to_thread(cluster.start)
    await drill.reconnect()
    await drill.worker()
    await drill.drained()
    return await drill.violations()
