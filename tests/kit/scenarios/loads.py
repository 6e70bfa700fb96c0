"""Drills about load: an orderly end under it, kills again and again, small ones beside great ones.

Each gives what the checker found: nothing with the product as it is, something with a seeded defect (`drill.defect`).
"""

from __future__ import annotations

import asyncio
import random
from uuid import UUID

from tests.kit.drill import GUARANTEES, Drill, Guarantee
from tests.kit.processes import until

CONNECTIONS = 4
_BACKLOG = 3000
_SLOW = {"action": "slow", "stage": "dot", "delay_ms": 5}


async def ended_in_order(drill: Drill) -> list[str]:
    """F14: SIGTERM to one of two workers, then to the other, under load: exit 0, nothing left in their hands."""
    drill.faults({**_SLOW, "delay_ms": 10})
    for guarantee in GUARANTEES:
        await drill.admit(await drill.sender(guarantee, connections=CONNECTIONS), 2000)
    workers = await asyncio.gather(drill.worker(), drill.worker())
    found = []
    for worker in workers:
        await drill.accepted(50)
        worker.ask_to_stop()
        if code := await worker.ended():
            found.append(f"{worker.name} ended with {code}")
    if leased := await drill.open_count(1):
        found.append(f"I11: {leased} messages are leased by workers that have ended")
    if left := list((drill.folder / "data" / "journals").glob("*.journal")):
        found.append(f"I11: {len(left)} journals of workers that ended in order")
    assert await drill.open_count(), "nothing was left to give back, so nothing is proved"
    drill.faults()
    await drill.worker()
    await drill.drained()
    return found + await drill.violations()


async def ended_before_the_answer(drill: Drill, guarantee: Guarantee) -> list[str]:
    """F14: SIGTERM while a server keeps its answers longer than the grace: begun is in doubt, the rest goes back."""
    drill.faults({"action": "hang", "stage": "dot", "seconds": 30, "skip": 10, "times": CONNECTIONS})
    sender = await drill.sender(guarantee, connections=CONNECTIONS)
    await drill.admit(sender, 60)
    worker = await drill.worker(grace_s="1")
    await drill.accepted(10 + CONNECTIONS)
    worker.ask_to_stop()
    code = await worker.ended()
    found = [f"{worker.name} ended with {code}"] if code else []
    if leased := await drill.open_count(1):
        found.append(f"I11: {leased} messages are leased by workers that have ended")
    drill.faults()
    await drill.worker()
    await drill.drained()
    if guarantee == "at_least_once":
        return found + await drill.violations(duplicates=CONNECTIONS)
    return found + await drill.violations(uncertain=CONNECTIONS)


async def killed_again_and_again(drill: Drill, guarantee: Guarantee, *, rounds: int, seed: int) -> list[str]:
    """F11: both workers are killed at random moments, again and again; what they have in flight is all it may cost."""
    dice = random.Random(seed)  # noqa: S311 - moments of kills, repeatable by the seed
    drill.faults(_SLOW)
    sender = await drill.sender(guarantee, connections=CONNECTIONS)
    await drill.admit(sender, 400 + 200 * rounds)
    kills = 0
    for _ in range(rounds):
        workers = await asyncio.gather(drill.worker(), drill.worker())
        await drill.accepted(dice.randint(20, 120))
        for worker in workers:
            worker.kill()
            kills += 1
    await drill.worker()
    await drill.drained()
    bound = kills * CONNECTIONS
    if guarantee == "at_least_once":
        return await drill.violations(duplicates=bound)
    return await drill.violations(uncertain=bound)


async def mixed_faults(drill: Drill, guarantee: Guarantee, *, rounds: int, seed: int) -> list[str]:
    """One fault after the other, chosen by a seeded die, while clients submit and two workers send."""
    dice = random.Random(seed)  # noqa: S311 - a choice of faults, repeatable by the seed
    drill.faults(_SLOW)
    sender = await drill.sender(guarantee, connections=CONNECTIONS)
    workers = list(await asyncio.gather(drill.worker(), drill.worker()))
    bound = 0
    for _ in range(rounds):
        await drill.admit(sender, 150)
        await drill.accepted(dice.randint(5, 100))
        at = dice.randrange(len(workers))
        match dice.choice(("kill", "stop", "freeze", "sessions", "lines", "pause")):
            case "kill":
                workers[at].kill()
                bound += CONNECTIONS
                workers[at] = await drill.worker()
            case "stop":
                workers[at].ask_to_stop()
                assert await workers[at].ended() == 0, workers[at].said()
                workers[at] = await drill.worker()
            case "freeze":
                workers[at].freeze()
                await asyncio.sleep(dice.uniform(0.1, 1.5))  # how long the fault lasts
                workers[at].thaw()
            case "sessions":
                await drill.end_sessions()
            case "lines":
                bound += 2
                drill.faults(_SLOW, {"action": "drop", "stage": "after_dot", "times": 2})
            case _:
                await drill.pause("tenant", None)
                await drill.resume("tenant", None)
    await drill.drained(bound_s=120)
    if guarantee == "at_least_once":
        return await drill.violations(duplicates=bound)
    return await drill.violations(uncertain=bound)


async def overtakes(drill: Drill) -> list[str]:
    """A password mail submitted behind a campaign goes with one of the next claims, not behind all of it."""
    drill.faults(_SLOW)
    sender = await drill.sender("at_most_once", connections=CONNECTIONS)
    await drill.campaign(sender, _BACKLOG)
    await drill.worker()
    await drill.accepted(300)
    (single,) = await drill.admit(sender, 1)
    return await _is_served(drill, {single}, sender.tenant_id)


async def small_beside_great(drill: Drill, *, tenants: int) -> list[str]:
    """F94: many tenants with one message each, submitted behind one with thousands: none waits for all of those."""
    drill.faults(_SLOW)
    great = await drill.sender("at_most_once", connections=CONNECTIONS)
    await drill.admit(great, _BACKLOG)
    small = []
    for number in range(tenants):
        tenant_id = await drill.tenant(f"small {number}")
        small.append(await drill.sender("at_most_once", connections=1, tenant_id=tenant_id))
    await drill.worker()
    await drill.accepted(100)
    wanted = {each for sender in small for each in await drill.admit(sender, 1)}
    return await _is_served(drill, wanted, great.tenant_id)


async def _is_served(drill: Drill, wanted: set[UUID], great: UUID) -> list[str]:
    """Wait for some messages; at that moment most of a great tenant's backlog must still be waiting."""

    def taken() -> bool:
        return wanted <= {acceptance.message_id for acceptance in drill.acceptances()}

    await until(taken, what="the late ones are served", poll_s=0.1)
    waiting = await drill.value("SELECT count(*) FROM queue WHERE tenant_id = $1", great)
    drill.faults()
    await drill.drained(bound_s=180)
    found = [] if waiting > _BACKLOG / 4 else [f"only {waiting} of {_BACKLOG} waited when the late ones were served"]
    return found + await drill.violations()
