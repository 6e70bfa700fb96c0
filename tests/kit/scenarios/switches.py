"""Drills about stopping: the kill switch, the emergency file, somebody who says stop.

Each gives what the checker found: nothing with the product as it is, something with a seeded defect (`drill.defect`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

import pytest

from outrider.domain.limits import switches
from tests.kit.cluster import Cluster
from tests.kit.drill import LEASE_S, Drill, boot_ns
from tests.kit.ledgers import Acceptance, i5_nothing_after
from tests.kit.processes import Process, until
from tests.kit.standstills import stood_still_s

GRACE_S = 1.0
"""From the return of the command to the last acceptance in the server's own ledger [architecture.md 4]."""
_LOOKED_AT_S = 1.5
_NS_PER_S = 1_000_000_000
_SOMEBODY_WAITS = """
SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_stat_activity a USING (pid)
               WHERE NOT l.granted AND a.datname = current_database() AND a.application_name = 'drill')
"""
"""Of the client's sessions: the pause, for the end of a claim."""


async def nothing_sent_since(drill: Drill, stopped_ns: int, ids: Collection[UUID]) -> list[str]:
    """I5 for some messages: look at the ledger beyond the grace, before anything is resumed."""
    await asyncio.sleep(max(0.0, _LOOKED_AT_S - (boot_ns() - stopped_ns) / _NS_PER_S))

    def is_over() -> bool:
        return boot_ns() - stopped_ns >= (_LOOKED_AT_S + stood_still_s(stopped_ns)) * _NS_PER_S

    await until(is_over, what="the grace is over, without what the machine stood still")
    wanted = set(ids)
    taken = [each for each in drill.acceptances(since_ns=stopped_ns) if each.message_id in wanted]
    return nothing_late(taken, stopped_ns)


def nothing_late(taken: Sequence[Acceptance], since_ns: int, *, grace_s: float = GRACE_S) -> list[str]:
    """I5: nothing later than the grace, and than what the machine itself stood still of it."""
    found = i5_nothing_after(taken, since_ns, grace_s=grace_s)
    if not found:
        return []
    stood_s = stood_still_s(since_ns, max(each.boot_ns for each in taken))
    return i5_nothing_after(taken, since_ns, grace_s=grace_s + stood_s)


async def paused_in_the_middle_of_a_batch(drill: Drill) -> list[str]:
    """F85: a pause while a slow server is in the middle of a batch: the rest of the batch stays."""
    sender = await drill.sender("at_most_once", connections=2)
    drill.faults({"action": "slow", "stage": "dot", "delay_ms": 100})
    ids = await drill.admit(sender, 80)
    await drill.worker()
    await drill.accepted(5)
    await drill.pause("sender", str(sender.id))
    found = await nothing_sent_since(drill, boot_ns(), ids)
    drill.faults()
    await drill.resume("sender", str(sender.id))
    await drill.drained()
    return found + await drill.violations()


async def paused_during_a_claim(drill: Drill) -> list[str]:
    """F85: a claim that had asked its gates before the pause and takes its messages after it.

    Whoever pauses waits for it: no lease begins once the command has returned. The claim stands still until whoever
    pauses waits for it, or has not waited.
    """
    sender = await drill.sender("at_most_once")
    await drill.admit(sender, 50)
    victim = drill.start_worker(at="claim.judged:1:stop;claim.committed:1:kill")
    await victim.stands_still(what="a claim is being judged")

    async def pause() -> tuple[bool, datetime]:
        # that it waits is what is looked at, not for how long at most
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(switches, "_SETTLE_MS", "60000")
            is_settled = await drill.pause("tenant", None)
        return is_settled, await drill.value("SELECT clock_timestamp()")

    pausing = asyncio.create_task(pause())

    async def waits() -> bool:
        return pausing.done() or bool(await drill.value(_SOMEBODY_WAITS))

    await until(waits, what="whoever pauses waits for the claim, or has not waited")
    victim.thaw()
    is_settled, returned_at = await pausing
    await victim.killed("claim.committed")
    late = await drill.value(
        "SELECT count(*) FROM queue WHERE state = 1 AND lease_until > $1::timestamptz + $2 * interval '1 second'",
        returned_at, LEASE_S,
    )  # fmt: skip
    found = [f"I5: {late} leases began after the pause had returned"] if late else []
    if not is_settled:
        found.append("I5: the pause returned while a claim begun before it was open")
    await drill.resume("tenant", None)
    await drill.worker()
    await drill.drained()
    return found + await drill.violations()


async def stop_said_after_the_claim(drill: Drill) -> list[str]:
    """F84: people say stop while their messages are in a worker's hands, not yet written."""
    sender = await drill.sender("at_most_once", connections=2)
    drill.faults({"action": "slow", "stage": "dot", "delay_ms": 100})
    ids = await drill.admit(sender, 70)
    await drill.worker()
    await drill.accepted(5)
    stopped = ids[-10:]
    for row in await drill.rows("SELECT address FROM messages WHERE id = ANY($1::uuid[])", stopped):
        await drill.suppress(row["address"])
    committed_ns = boot_ns()
    await drill.drained()
    taken = [each for each in drill.acceptances() if each.message_id in set(stopped)]
    found = nothing_late(taken, committed_ns)
    blocked = await drill.value(
        "SELECT count(*) FROM messages WHERE id = ANY($1::uuid[]) AND state = 'blocked'", stopped
    )
    if blocked + len(taken) != len(stopped):
        found.append(f"I2: {len(stopped)} people said stop, {blocked} messages are blocked")
    return found + await drill.violations()


async def kill_switch_at_rate(drill: Drill, *, workers: int = 2, waiting: int = 2500) -> list[str]:
    """F85: every scope in turn while several workers send as fast as they can; then everything goes on to its end."""
    other = await drill.tenant("other")
    bulk, single = await drill.sender("at_most_once"), await drill.sender("at_most_once")
    elsewhere = await drill.sender("at_most_once", tenant_id=other)
    drill.faults({"action": "slow", "stage": "dot", "delay_ms": 40})
    campaign_id = await drill.campaign(bulk, waiting)
    of_single = await drill.admit(single, waiting)
    of_other = await drill.admit(elsewhere, waiting)
    await asyncio.gather(*(drill.worker() for _ in range(workers)))
    await drill.accepted(200)
    campaign = [row["id"] for row in await drill.rows("SELECT id FROM messages WHERE campaign_id = $1", campaign_id)]
    ours = campaign + of_single
    scopes: list[tuple[str, str | None, list[UUID]]] = [
        ("campaign", str(campaign_id), campaign),
        ("sender", str(single.id), of_single),
        ("channel", "email", ours),
        ("tenant", None, ours),
        ("installation", None, ours + of_other),
    ]
    found: list[str] = []
    for scope, scope_id, stopped in scopes:
        found += await _stop_and_go(drill, scope, scope_id, stopped)
    drill.faults()
    await drill.drained(bound_s=400)
    return found + await drill.violations()


async def _stop_and_go(drill: Drill, scope: str, scope_id: str | None, ids: list[UUID]) -> list[str]:
    """Pull one switch: its messages stop and the others do not; let it go again: they go on."""
    stopped = set(ids)
    await drill.pause(scope, scope_id)
    stopped_ns = boot_ns()
    found = await nothing_sent_since(drill, stopped_ns, stopped)
    waiting = {row["message_id"] for row in await drill.rows("SELECT message_id FROM queue")}
    assert stopped & waiting, f"{scope}: nothing was left to stop, so nothing is proved"
    if waiting - stopped:
        await until(
            lambda: _taken_since(drill, stopped_ns) - stopped, what=f"what {scope} does not cover goes on", poll_s=0.1
        )
    await drill.resume(scope, scope_id)
    resumed_ns = boot_ns()
    await until(lambda: _taken_since(drill, resumed_ns) & stopped, what=f"{scope} goes on", poll_s=0.1)
    return [f"{scope}: {each}" for each in found]


def _taken_since(drill: Drill, since_ns: int) -> set[UUID]:
    return {acceptance.message_id for acceptance in drill.acceptances(since_ns=since_ns)}


async def emergency_file(drill: Drill, cluster: Cluster) -> list[str]:
    """F86: the database is down when somebody makes the file; nothing is sent while it is there, database or not."""
    sender = await drill.sender("at_most_once", connections=2)
    drill.faults({"action": "slow", "stage": "dot", "delay_ms": 50})
    ids = await drill.admit(sender, 80)
    worker = await drill.worker()
    await drill.accepted(10)
    await asyncio.to_thread(cluster.stop)
    drill.emergency_file.touch()
    found = await nothing_sent_since(drill, boot_ns(), ids)
    await asyncio.to_thread(cluster.start)
    newcomer = drill.start_worker()
    await drill.reconnect()
    before = len(drill.acceptances())
    for each in (worker, await newcomer.ready()):
        await _is_held(each)
    await until(lambda: _nothing_leased(drill), what="what was not begun is given back")
    if len(drill.acceptances()) != before:
        found.append("I5: acceptances although the emergency file is there")
    drill.emergency_file.unlink()
    await drill.drained()
    return found + await drill.violations()


async def _is_held(worker: Process) -> None:
    """Wait until a worker reads the database again, and see that it knows of the file."""

    async def is_held() -> bool:
        report = await worker.health()
        return bool(report["is_emergency"] and report["loops"]["switches"] < 1)

    await until(is_held, what=f"{worker.name} is itself again")


async def _nothing_leased(drill: Drill) -> bool:
    return not await drill.open_count(1)
