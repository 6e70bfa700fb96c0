"""Drills about a worker in trouble: its sibling is gone, one tenant breaks it, it stands still, its means run out.

Each gives what the checker found: nothing with the product as it is.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
from dataclasses import replace
from pathlib import Path

from outrider.data.db import Role
from outrider.domain.templates import contents
from outrider.plugins.channels.email import CHANNEL
from tests.kit.drill import Drill, Guarantee, boot_ns
from tests.kit.processes import Process, until
from tests.kit.rendering import InProcessRenderer
from tests.kit.standstills import SURVIVORS_LEASE_S, stood_still_s

CONNECTIONS = 4
_SLOW = {"action": "slow", "stage": "dot", "delay_ms": 5}
_TRIP = """
SET ROLE outrider_owner;
CREATE SEQUENCE writes;
GRANT SELECT ON SEQUENCE writes TO outrider_engine;
CREATE FUNCTION trip() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
  IF current_setting('application_name') LIKE 'outrider worker%' AND nextval('writes') % 5 = 0 THEN
    RAISE EXCEPTION 'drill' USING ERRCODE = (ARRAY['40P01', '40001', '57014', '55P03'])[1 + currval('writes') / 5 % 4];
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER trip AFTER INSERT OR UPDATE OR DELETE ON queue FOR EACH STATEMENT EXECUTE FUNCTION trip();
CREATE TRIGGER trip AFTER UPDATE ON messages FOR EACH STATEMENT EXECUTE FUNCTION trip();
"""
"""Deadlock, serialization failure, statement cancelled by its time-out, lock not to be had in time: in turn."""


async def one_of_two_is_lost(drill: Drill, guarantee: Guarantee) -> list[str]:
    """F12: of two workers on two machines one is killed and stays away; the other goes on at once, and alone."""
    drill.faults(_SLOW | {"delay_ms": 50})  # so that it has something in its hands, however late it is killed
    senders = [await drill.sender(guarantee, connections=CONNECTIONS) for _ in range(2)]
    for sender in senders:
        await drill.admit(sender, 600)  # more than the lost one may have in its hands
    victim, other = await asyncio.gather(
        drill.worker(own_data=True), drill.worker(own_data=True, lease_s=SURVIVORS_LEASE_S)
    )
    await drill.accepted(100)
    victim.kill()
    leased = await drill.open_count(1)
    await drill.accepted(100)
    await drill.drained(bound_s=300)
    assert leased, "nothing was in the dead one's hands, so nothing is proved"
    assert other.lives()
    if guarantee == "at_least_once":
        return await drill.violations(duplicates=leased)
    return await drill.violations(uncertain=leased)


async def renderers_are_killed(drill: Drill, *, times: int) -> list[str]:
    """F15: the system kills the child that renders, as it does when memory runs out; the worker makes another."""
    drill.faults(_SLOW)
    sender = await drill.sender("at_most_once", connections=CONNECTIONS)
    async with drill.db.uow(Role.ENGINE, sender.tenant_id) as uow:
        content_id = await contents.save(
            uow, CHANNEL, InProcessRenderer(), subject="s", html=None, text="Hello {{ 'there' }}", is_template=True
        )
    templated = replace(sender, content_id=content_id)
    await drill.admit(templated, 100)
    worker = await drill.worker(claim_batch="20")
    killed: set[int] = set()
    for _ in range(times):
        await drill.admit(templated, 100)  # there is something left however much went since the last one was killed
        await drill.accepted(50)
        await until(lambda: bool(_renderers(worker) - killed), what="there is a renderer again")
        for pid in _renderers(worker) - killed:
            os.kill(pid, signal.SIGKILL)
            killed.add(pid)
    await drill.drained()
    found = [] if worker.lives() else [f"{worker.name} ended: {worker.said()}"]
    return found + await drill.violations()


async def one_tenant_breaks_it(drill: Drill) -> list[str]:
    """F17: what one tenant has cannot be worked on, a bug; the others' messages go, and its own once it is mended."""
    broken_id = await drill.tenant("broken")
    broken = await drill.sender("at_most_once", tenant_id=broken_id)
    sound = await drill.sender("at_most_once")
    break_it = "UPDATE connections SET settings = '[1]', version = version + 1 WHERE tenant_id = $1"
    kept = await drill.value("SELECT settings::text FROM connections WHERE tenant_id = $1", broken_id)
    await drill.execute(break_it, broken_id)
    stuck = await drill.admit(broken, 20)
    worker = await drill.worker()
    await until(lambda: "carry_failed" in worker.log.read_text(), what="the log says so")
    going = await drill.admit(sound, 200)

    def are_taken() -> bool:
        return set(going) <= {acceptance.message_id for acceptance in drill.acceptances()}

    await until(are_taken, what="the others' messages are sent", poll_s=0.1)
    waiting = await drill.value("SELECT count(*) FROM queue WHERE tenant_id = $1", broken_id)
    found = [] if waiting == len(stuck) else [f"{waiting} of {len(stuck)} wait while they cannot be worked on"]
    mend = "UPDATE connections SET settings = $2::text::jsonb, version = version + 1 WHERE tenant_id = $1"
    await drill.execute(mend, broken_id, kept)
    await drill.drained()
    return found + await drill.violations()


async def stands_still(drill: Drill) -> list[str]:
    """F18: the event loop is blocked for longer than a lease; its thread renews, so nobody takes the messages over.

    No thread renews while the machine itself stands still: what is on the wires then may go twice.
    """
    lease_s = float(drill.command.environment["OUTRIDER_LEASE_S"])
    sender = await drill.sender("at_least_once", connections=CONNECTIONS)
    await drill.admit(sender, 60)
    blocked = drill.start_worker(at=f"send.before_bytes:20:sleep:{2 * lease_s + 2:g}", own_data=True)
    await until(lambda: len(blocked.hits()) >= 20, what="the worker stands still")
    began_ns = boot_ns()
    await drill.worker(own_data=True)
    await drill.drained()
    assert blocked.hits()[19].split()[2] == "sleep"
    is_excused = stood_still_s(began_ns) > lease_s / 3  # at least half of it is left at any moment
    return await drill.violations(duplicates=2 * CONNECTIONS if is_excused else 0)


async def files_run_out(drill: Drill) -> list[str]:
    """F19: no file and no socket can be opened any more; the worker says so, lives, and goes on when it can."""
    drill.faults(_SLOW)
    sender = await drill.sender("at_most_once", connections=CONNECTIONS)
    worker = await drill.worker()
    pid = worker.process.pid
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (_lowest_free(pid), hard))
    await drill.admit(sender, 60)
    await until(lambda: "Too many open files" in worker.log.read_text(), what="it says what it lacks")
    taken = len(drill.acceptances())
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
    await drill.drained()
    assert taken < 60, "it lacked nothing, so nothing is proved"
    found = [] if worker.lives() else [f"{worker.name} ended: {worker.said()}"]
    return found + await drill.violations()


async def paused_and_resumed(drill: Drill, *, times: int) -> list[str]:
    """F23: a campaign is paused and resumed again and again while it is expanded and sent: everybody once."""
    drill.faults(_SLOW | {"delay_ms": 20})
    sender = await drill.sender("at_most_once", connections=CONNECTIONS)
    people = 60 * times  # more than go while this process is busy with a pause
    workers = await asyncio.gather(drill.worker(expand_batch="100"), drill.worker(expand_batch="100"))
    campaign_id = str(await drill.campaign(sender, people))  # now: none has sent it before the other is there
    for _ in range(times):
        await drill.accepted(10)
        await drill.pause("campaign", campaign_id)
        await drill.resume("campaign", campaign_id)
    await drill.drained()
    assert all(worker.lives() for worker in workers)
    taken = [acceptance.message_id for acceptance in drill.acceptances()]
    found = [] if len(taken) == len(set(taken)) == people else [f"{len(taken)} acceptances for {people} people"]
    return found + await drill.violations()


async def statements_fail(drill: Drill) -> list[str]:
    """F42, F43: of what workers write, every fifth statement meets a deadlock, a conflict or a time-out."""
    await drill.execute_as_login(_TRIP)
    senders = [await drill.sender("at_most_once", connections=CONNECTIONS) for _ in range(2)]
    for sender in senders:
        await drill.admit(sender, 300)
    await drill.campaign(senders[0], 300)
    workers = await asyncio.gather(drill.worker(claim_batch="20"), drill.worker(claim_batch="20"))
    await drill.drained(bound_s=300)
    found = [] if all(worker.lives() for worker in workers) else ["a worker has ended"]
    writes = await drill.value("SELECT last_value FROM writes")
    assert writes >= 50, f"{writes // 5} statements failed: too few to prove anything"
    return found + await drill.violations()


def _lowest_free(pid: int) -> int:
    """The number that the next file of a process would get: the limit is one of numbers, not of how many are open."""
    taken = {int(each.name) for each in Path(f"/proc/{pid}/fd").iterdir()}
    return min(set(range(len(taken) + 1)) - taken)


def _renderers(worker: Process) -> set[int]:
    """The children of a worker that render, by process id."""
    found = set()
    for pid in Path(f"/proc/{worker.process.pid}/task/{worker.process.pid}/children").read_text().split():
        try:
            if b"render_child" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.add(int(pid))
        except FileNotFoundError:
            continue
    return found
