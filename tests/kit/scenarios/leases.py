"""Drills about leases: a worker that is stopped, one whose answer comes too late, rows that somebody else has locked.

Each gives what the checker found: nothing with the product as it is, something with a seeded defect (`drill.defect`).
"""

from __future__ import annotations

from tests.kit.drill import Drill, Guarantee
from tests.kit.gate import Gate
from tests.kit.postgres import IS_WAITED_FOR
from tests.kit.processes import Process, until
from tests.kit.standstills import SURVIVORS_LEASE_S

LEASE_S = "6"
"""Of the worker that is stopped."""
CONNECTIONS = 2
_GOING = 8


async def thawed(worker: Process) -> None:
    """Let a frozen worker go on and wait until it has asked its gates again about what it holds."""
    worker.thaw()

    async def has_asked() -> bool:
        loops = (await worker.health())["loops"]
        return bool(loops["second_thoughts"] < 1 and loops["switches"] < 1)

    await until(has_asked, what=f"{worker.name} is itself again")


async def idle(worker: Process) -> None:
    """Wait until a worker has nothing in hand any more."""

    async def is_idle() -> bool:
        report = await worker.health()
        return not report["in_flight"] and not report["results_waiting"]

    await until(is_idle, what=f"{worker.name} has nothing in hand")


async def frozen_worker(drill: Drill, guarantee: Guarantee, *, connections: int = CONNECTIONS) -> list[str]:
    """F13: stopped for longer than its lease with a batch in hand, then continued.

    Its lines in flight are held by the gate, so that it wakes up with answers still to come: whether it sends the rest
    of its batch is then decided by its look at the lease before each write, and by nothing else. What the pause may
    cost is those lines: with one of them, one duplicate.
    """
    count = 30
    async with Gate.open(await drill.smtp_port()) as gate:
        sender = await drill.sender(guarantee, connections=connections, port=gate.port)
        await drill.admit(sender, count)
        gate.hold(skip=_GOING // connections)
        passed = _GOING // connections * connections
        victim = await drill.worker()  # with room for a second batch: a late worker may give back what it has not begun
        await until(lambda: gate.held_count == connections, what="its lines are in flight")
        await until(lambda: _are_recorded(drill, passed), what="what was answered is recorded")
        victim.freeze()
        gate.hold_no_more()
        await drill.worker(lanes_in_flight="1", lease_s=SURVIVORS_LEASE_S)
        if guarantee == "at_least_once":
            await drill.drained()
        else:
            await until(lambda: _all_decided(drill, count), what="the sweep has called the rest uncertain")
        await thawed(victim)
        gate.release()
        await idle(victim)
        await drill.drained()
    begun = connections if guarantee == "at_least_once" else 0
    return await drill.violations(duplicates=begun, uncertain=count if guarantee == "at_most_once" else 0)


async def _are_recorded(drill: Drill, count: int) -> bool:
    return bool(await drill.value("SELECT count(*) = $1 FROM messages WHERE state = 'sent'", count))


async def _all_decided(drill: Drill, count: int) -> bool:
    return bool(await drill.value("SELECT count(*) = $1 FROM messages WHERE state <> 'queued'", count))


async def stale_outcome(drill: Drill) -> list[str]:
    """F13: the refusal of a first attempt arrives while another worker makes the second, which is then accepted."""
    drill.faults({"action": "refuse", "stage": "dot", "code": 554, "enhanced": "5.7.1", "times": 1})
    return await _late_first_worker(drill, count=1, finished_by_second=0, duplicates=0)


async def stale_hand_back(drill: Drill) -> list[str]:
    """F13: a worker gives back a message of its batch that another worker has in hand by then."""
    return await _late_first_worker(drill, count=10, finished_by_second=1, duplicates=1)


async def _late_first_worker(drill: Drill, *, count: int, finished_by_second: int, duplicates: int) -> list[str]:
    """Two workers with the same messages in hand; the first, frozen before, is heard first."""
    async with Gate.open(await drill.smtp_port()) as gate:
        sender = await drill.sender("at_least_once", connections=1, port=gate.port)
        gate.hold()
        await drill.admit(sender, count)
        first = await drill.worker(lanes_in_flight="1")
        await until(lambda: gate.held_count == 1, what="the first attempt is in flight")
        first.freeze()
        gate.hold(skip=finished_by_second)
        await drill.worker(lanes_in_flight="1", lease_s=SURVIVORS_LEASE_S)
        await until(lambda: gate.held_count == 2, what="the second worker's attempt is in flight")
        gate.hold_no_more()
        await thawed(first)
        gate.release(first=1)
        await idle(first)
        gate.release()
        await drill.drained()
    return await drill.violations(duplicates=duplicates)


async def rows_locked_by_another(drill: Drill) -> list[str]:
    """Somebody holds rows of the queue in a long transaction: all others are sent meanwhile."""
    locked, count = 5, 100
    sender = await drill.sender("at_most_once")
    await drill.admit(sender, count)
    holder = await drill.db.connect()
    try:
        await holder.execute("SET ROLE outrider_engine")
        async with holder.transaction():
            await holder.fetch("SELECT 1 FROM queue ORDER BY priority, due_at, message_id LIMIT $1 FOR UPDATE", locked)
            pid = holder.get_server_pid()
            await drill.worker(lanes_in_flight="1")
            await until(lambda: _sent_or_stuck(drill, count - locked, pid), what="the others are sent, or wait")
            sent = len(drill.acceptances())
    finally:
        await holder.close()
    await drill.drained()
    stuck = [] if sent >= count - locked else [f"I2: {count - locked - sent} messages waited for {locked} locked rows"]
    return stuck + await drill.violations()


async def _sent_or_stuck(drill: Drill, count: int, holder: int) -> bool:
    """Whether all are sent that may be, or somebody waits for the session that holds the others."""
    return len(drill.acceptances()) >= count or bool(await drill.value(IS_WAITED_FOR, holder))
