"""Drills about load: an orderly end under it, kills again and again, small ones beside great ones.

Each gives what the checker found: nothing with the product as it is, something with a seeded defect (`drill.defect`).
"""

from __future__ import annotations

import asyncio
import random
import time
from http import HTTPStatus
from uuid import UUID

import aiohttp

from outrider.app.processes import HARD_AFTER_S
from outrider.base.settings import Settings
from tests.kit.drill import GUARANTEES, Drill, Guarantee
from tests.kit.processes import BOUND_S, Process, say, slowness, until
from tests.kit.scenarios.acceptance import client_of

CONNECTIONS = 4
_BACKLOG = 3000
_BULK = {"class": "bulk", "purpose": "transactional"}
_SLOW = {"action": "slow", "stage": "dot", "delay_ms": 5}
_SLOWER = {**_SLOW, "delay_ms": 20}
"""So that a backlog lasts for much longer than it takes to submit something behind it."""
_GRACE_S: float = Settings.model_fields["grace_s"].default
_SEEN_S = 5.0
"""Until a signal is heard and an end is seen, on a machine that does nothing else."""


async def ended_in_order(drill: Drill) -> list[str]:
    """F14: SIGTERM to one of two workers, then to the other, under load: exit 0, nothing left in their hands.

    With the grace as it is installed a worker ends itself hard half a minute after the signal, and says so by its exit
    code.
    """
    drill.faults({**_SLOW, "delay_ms": 10})
    for guarantee in GUARANTEES:
        await drill.admit(await drill.sender(guarantee, connections=CONNECTIONS), 2000)
    workers = await asyncio.gather(drill.worker(), drill.worker())
    found = []
    for worker in workers:
        await drill.accepted(50)
        found += await _told_to_stop(worker, _GRACE_S)
    if leased := await drill.open_count(1):
        found.append(f"I11: {leased} messages are leased by workers that have ended")
    if left := list((drill.folder / "data" / "journals").glob("*.journal")):
        found.append(f"I11: {len(left)} journals of workers that ended in order")
    assert await drill.open_count(), "nothing was left to give back, so nothing is proved"
    drill.faults()
    await drill.worker()
    await drill.drained()
    return found + await drill.violations()


async def _told_to_stop(worker: Process, grace_s: float) -> list[str]:
    """SIGTERM; a worker that does not end by itself in time ends itself hard, which its exit code tells, or is late."""
    began_s = time.monotonic()
    worker.ask_to_stop()
    code = await worker.ended()
    took_s = time.monotonic() - began_s
    say(f"{worker.name} ended {took_s:.1f} s after SIGTERM")
    found = [f"F14: {worker.name} ended with {code}: {worker.said()}"] if code else []
    return found + ended_late(worker.name, took_s, grace_s=grace_s)


def ended_late(name: str, took_s: float, *, grace_s: float) -> list[str]:
    """Whether a worker has outlived its grace and the moment at which it would have ended itself hard."""
    most_s = grace_s + HARD_AFTER_S + _SEEN_S * slowness()
    return [f"F14: {name} ended after {took_s:.1f} s, {most_s:.1f} s at most are wanted"] if took_s > most_s else []


async def ended_before_the_answer(drill: Drill, guarantee: Guarantee, *, grace_s: str = "") -> list[str]:
    """F14: SIGTERM while a server keeps its answers longer than the grace: begun is in doubt, the rest goes back.

    Takes:   grace_s: empty: as it is installed.
    """
    drill.faults({"action": "hang", "stage": "dot", "seconds": 300, "skip": 10, "times": CONNECTIONS})
    sender = await drill.sender(guarantee, connections=CONNECTIONS)
    await drill.admit(sender, 60)
    worker = await (drill.worker(grace_s=grace_s) if grace_s else drill.worker())
    await drill.accepted(10 + CONNECTIONS)
    found = await _told_to_stop(worker, float(grace_s or _GRACE_S))
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
    await drill.admit(sender, 400)
    kills = 0
    for _ in range(rounds):
        workers = await asyncio.gather(drill.worker(), drill.worker())
        await drill.admit(sender, 200)  # there is something left, however much the first of them has sent by now
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
    await drill.drained()
    if guarantee == "at_least_once":
        return await drill.violations(duplicates=bound)
    return await drill.violations(uncertain=bound)


async def overtakes(drill: Drill) -> list[str]:
    """A password mail submitted behind a campaign goes with one of the next claims, not behind all of it."""
    drill.faults(_SLOWER)
    sender = await drill.sender("at_most_once", connections=CONNECTIONS)
    await drill.campaign(sender, _BACKLOG)
    await drill.worker()
    await drill.accepted(300)
    (single,) = await drill.admit(sender, 1)
    return await _is_served(drill, {single}, sender.tenant_id)


async def full_queue(drill: Drill, *, most: int) -> list[str]:
    """F93: a campaign fills the share of its tenant's quota that marketing may have, and stands still there.

    Bulk submissions are refused and told so; password mails go, and are asked for again when the API is killed after
    their commit; when the campaign goes on, everything that was refused is taken, and the campaign ends whole.
    """
    share, mails = most * 80 // 100, most // 20
    found: list[str] = []
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(BOUND_S)) as session:
        client = await client_of(drill, session)
        tenant_id = client.sender.tenant_id
        await drill.execute("UPDATE tenants SET open_most = $1 WHERE id = $2", most, tenant_id)
        campaign = await drill.campaign(client.sender, most)
        await drill.pause("campaign", str(campaign))
        await drill.worker()

        async def waits() -> bool:
            return bool(await drill.value("SELECT no_room_at IS NOT NULL FROM campaigns WHERE id = $1", campaign))

        await until(waits, what="the campaign waits for room")
        if (backlog := await drill.open_count()) != share:
            found.append(f"{backlog} messages wait where {share} may")
        victim = await drill.start("api", at=f"accept.committed:{mails // 2}:kill").ready()
        for number in range(10):
            answer = await client.submit(victim, f"bulk-{number}", count=1 + number % 3, **_BULK)
            if answer.status != HTTPStatus.TOO_MANY_REQUESTS:
                found.append(f"a bulk submission beyond the share was answered {answer.status}")
        for number in range(mails):
            if (await client.submit(victim, f"mail-{number}")).status is None:
                break
        await victim.killed("accept.committed")
        api = await drill.start("api").ready()
        answers = [await client.insist(api, f"mail-{number}") for number in range(mails)]
        wanted = {each for answer in answers for each in answer.ids}
        await until(lambda: wanted <= _taken(drill), what="the password mails are sent", poll_s=0.1)
        if not await waits():
            found.append("the campaign did not wait while it was paused")
        await drill.resume("campaign", str(campaign))
        for number in range(10):
            await client.insist(api, f"bulk-{number}", count=1 + number % 3, **_BULK)
    await drill.drained(bound_s=180)
    if (sent := await drill.value("SELECT count(*) FROM messages WHERE campaign_id = $1", campaign)) != most:
        found.append(f"I1: the campaign queued {sent} of {most} after it had waited")
    return found + await drill.violations()


def _taken(drill: Drill) -> set[UUID]:
    return {acceptance.message_id for acceptance in drill.acceptances()}


async def small_beside_great(drill: Drill, *, tenants: int) -> list[str]:
    """F94: many tenants with one message each, submitted behind one with thousands: none waits for all of those."""
    drill.faults(_SLOWER)
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
    await until(lambda: wanted <= _taken(drill), what="the late ones are served", poll_s=0.1)
    waiting = await drill.value("SELECT count(*) FROM queue WHERE tenant_id = $1", great)
    drill.faults()
    await drill.drained(bound_s=180)
    found = [] if waiting > _BACKLOG / 4 else [f"only {waiting} of {_BACKLOG} waited when the late ones were served"]
    return found + await drill.violations()
