"""Drills about what comes back after a fault: a machine that was away takes its part again, bad messages fail alone.

Each gives what the checker found: nothing with the product as it is.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence

from outrider.data.db import Role
from outrider.domain.messages.admit import LaneKey, NewMessage, admit
from outrider.domain.templates import contents
from outrider.plugins.channels.email import CHANNEL
from tests.kit.drill import Drill, Guarantee, Sender
from tests.kit.poisoned import ENDED, POISON, poisoned
from tests.kit.processes import BOUND_S, say, until
from tests.kit.rendering import InProcessRenderer
from tests.kit.standstills import SURVIVORS_LEASE_S

CONNECTIONS = 4
_SLOW = {"action": "slow", "stage": "dot", "delay_ms": 50}
"""So that the lost one has something in its hands, however late it is killed."""
_ITS_PART = 20
_AT_ONCE = 5_000
_DEATHS_PER_MESSAGE = 3
_BAD = 3
_TOO_MUCH = (
    '{% if too_much %}{% set x = "aaaaaaaaaa" %}' + "{% set x = x ~ x %}" * 36 + "{{ x }}{% endif %}Hello {{ name }}."
)


async def machine_comes_back(drill: Drill, guarantee: Guarantee) -> list[str]:
    """F12: one of two machines is killed, the other goes on; started again, with its own disk, it takes its part.

    How fast it went with both, with one and with both again is said, not judged.
    """
    drill.faults(_SLOW)
    senders = [await drill.sender(guarantee, connections=CONNECTIONS) for _ in range(2)]
    for sender in senders:
        await drill.admit(sender, 600)  # more than the lost one may have in its hands
    home = str(drill.folder / "data-of-the-lost-one")
    lost, other = await asyncio.gather(
        drill.worker(data_dir=home), drill.worker(own_data=True, lease_s=SURVIVORS_LEASE_S)
    )
    both = await _rate(drill, senders, 100)
    lost.kill()
    leased = await drill.open_count(1)
    alone = await _rate(drill, senders, 100)
    counted = "send.answered:0:kill"  # never done
    back = await drill.worker(data_dir=home, at=counted, lease_s=SURVIVORS_LEASE_S)

    async def takes_part() -> bool:
        if not await drill.open_count():
            for sender in senders:
                await drill.admit(sender, 300)
        return len(back.hits()) >= _ITS_PART

    await until(takes_part, what="who is back sends its part", bound_s=180, poll_s=0.1)
    again = await _rate(drill, senders, 200)
    await drill.drained(bound_s=300)
    say(f"messages/s: {both:.0f} with both, {alone:.0f} with one, {again:.0f} with both again")
    assert leased, "nothing was in the dead one's hands, so nothing is proved"
    found = [] if other.lives() and back.lives() else ["F12: a worker ended because another had"]
    if guarantee == "at_least_once":
        return found + await drill.violations(duplicates=leased)
    return found + await drill.violations(uncertain=leased)


async def one_message_is_too_much(drill: Drill) -> list[str]:
    """F15: one message takes more memory than who renders it may have: it alone fails, with the reason."""
    sender = await drill.sender("at_most_once", connections=CONNECTIONS)
    async with drill.db.uow(Role.ENGINE, sender.tenant_id) as uow:
        content_id = await contents.save(
            uow, CHANNEL, InProcessRenderer(), subject="s", html=None, text=_TOO_MUCH, is_template=True
        )
    count, at = 120, 60
    new = [
        NewMessage(f"p{n}@example.com", content_id, json.dumps({"too_much": n == at, "name": str(n)}))
        for n in range(count)
    ]
    async with drill.db.uow(Role.ENGINE, sender.tenant_id) as uow:
        ids = await admit(uow, sender.tenant_id, LaneKey("email", sender.id, "transactional", "transactional", 5), new)
    drill.client.add(ids)
    worker = await drill.worker(claim_batch="40")
    await drill.drained(bound_s=180)
    found = [] if worker.lives() else [f"{worker.name} ended: {worker.said()}"]
    ends = await drill.rows("SELECT id, state FROM messages WHERE state <> 'sent'")
    if [tuple(row) for row in ends] != [(ids[at], "failed")]:
        found.append(f"F15: {len(ends)} of {count} were not sent: {[tuple(row) for row in ends[:3]]}")
    return found + await drill.violations()


async def messages_end_their_workers(drill: Drill, *, count: int) -> list[str]:
    """F16: three of many messages end each process that works on them: they are set aside, all others go.

    Two workers, each started again when it ends, as a supervisor does. What an ending worker had on the wire is in
    doubt by right; nothing goes twice.
    """
    sender = await drill.sender("at_most_once", connections=CONNECTIONS)
    places = {count * nth // (_BAD + 1) for nth in range(1, _BAD + 1)}
    addresses = [f"{POISON if at in places else 'p'}{at}@example.com" for at in range(count)]
    ids = []
    for first in range(0, count, _AT_ONCE):
        ids += await drill.admit_to(sender, addresses[first : first + _AT_ONCE])
    bad = {ids[at] for at in places}
    sound, drill.command = drill.command, poisoned(drill.command)
    deaths = await _kept_running(drill, most=_DEATHS_PER_MESSAGE * _BAD, bound_s=BOUND_S * (3 + count / _AT_ONCE))
    say(f"{deaths} workers ended over {_BAD} of {count} messages")
    found = [] if deaths >= _DEATHS_PER_MESSAGE else [f"F16: {deaths} workers ended, so nothing is proved"]
    evidence = await drill.evidence()
    aside = {each.id for each in evidence.messages.values() if (each.state, each.code) == ("failed", "poison")}
    if aside != bad:
        found.append(f"F16: {len(aside - bad)} messages too many and {len(bad - aside)} too few were set aside")
    if lost := set(ids) - bad - evidence.in_state("sent", "uncertain"):
        found.append(f"F16: {len(lost)} messages that ended no worker have not gone")
    listed = await asyncio.to_thread(sound.run, "poison", "list", "--json")
    if {row["message_id"] for row in listed.json()} != {str(each) for each in bad}:
        found.append(f"F16: `poison list` says {listed.out}")
    return found + await drill.violations(uncertain=deaths * CONNECTIONS)


async def _kept_running(drill: Drill, *, most: int, bound_s: float) -> int:
    """Two workers until nothing is open, each started again when a message has ended it; gives how often.

    Fails when more than `most` have ended.
    """
    workers = [drill.start_worker() for _ in range(2)]
    deaths = 0

    async def is_over() -> bool:
        nonlocal deaths
        for at, worker in enumerate(workers):
            if worker.lives():
                continue
            assert worker.process.returncode == ENDED, worker.said()
            deaths += 1
            assert deaths <= most, f"F16: more than {most} workers ended"
            workers[at] = drill.start_worker()
        return not await drill.open_count()

    await until(is_over, what="the queue is empty", bound_s=bound_s, poll_s=0.1)
    return deaths


async def _rate(drill: Drill, senders: Sequence[Sender], count: int) -> float:
    """Messages that the provider takes a second, over the next ones; so many more come in, lest there are too few."""
    drill.provider.read_new()  # what it has taken already is none of them
    began_s = time.monotonic()
    for sender in senders:
        await drill.admit(sender, count)
    await drill.accepted(count)
    return count / (time.monotonic() - began_s)
