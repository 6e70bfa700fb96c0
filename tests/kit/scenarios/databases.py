"""Drills about the database: stopped and crashed while clients submit and workers send.

Each gives what the checker found: nothing with the product as it is, something with a seeded defect (`drill.defect`).
How long it took until everything worked again is said, and judged by the figures of these rows, times what the machine
takes longer now because of others.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus

import aiohttp

from outrider.base.errors import Unavailable
from tests.kit.cluster import Cluster
from tests.kit.drill import GUARANTEES, Drill, Sender, boot_ns
from tests.kit.processes import BOUND_S, Process, say, slowness, until
from tests.kit.scenarios.acceptance import Client, client_of
from tests.kit.scenarios.journals import lose_the_end
from tests.kit.standstills import stood_still_s

CONNECTIONS = 4
_BATCH = 20
_RECOVERY_S = 10.0
"""From the moment the database accepts again until what is submitted then is taken, and sent [F26]."""
_FIRST_SEND_S = 60.0
"""From the start of the machine until the first message is sent [F20]."""


@dataclass(slots=True)
class Program:
    """A client of the API that submits batch after batch, each under a key of its own until it is taken."""

    client: Client
    api: Process
    name: str
    taken_count: int = 0
    later_count: int = 0
    wrong: list[str] = field(default_factory=list)

    async def run(self, is_over: asyncio.Event) -> None:
        """Submit until it is over; the last batch is taken then."""
        while not is_over.is_set():
            await until(self._is_taken, what=f"{self.name} is taken at its word", bound_s=2 * BOUND_S, poll_s=0.1)
            await asyncio.sleep(0.05)

    async def _is_taken(self) -> bool:
        """Ask once: 202 is written down; anything else must be 503 and say when to come back."""
        answer = await self.client.submit(self.api, f"{self.name}-{self.taken_count}", count=_BATCH)
        if answer.status == HTTPStatus.ACCEPTED:
            self.client.drill.client.add(answer.ids)
            self.taken_count += 1
            return True
        if answer.status != HTTPStatus.SERVICE_UNAVAILABLE or not (
            answer.retry_after.isdecimal() and int(answer.retry_after)
        ):
            self.wrong.append(f"F26: a submission was answered {answer.status}, Retry-After {answer.retry_after!r}")
        self.later_count += 1
        return False


@asynccontextmanager
async def asking(*programs: Program) -> AsyncIterator[None]:
    """Programs that submit until the block ends."""
    is_over = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for program in programs:
            group.create_task(program.run(is_over))
        yield
        is_over.set()


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


async def goes_away(
    drill: Drill, cluster: Cluster, end: Callable[[], None], *, times: int, down_s: float = 1.0
) -> list[str]:
    """F26, F27: the database is stopped or crashes again and again under load; nobody exits, everything is there.

    Programs submit over HTTP all the time. While the database is away they are told to come back, and they do, under
    the keys of what was not answered. A lost connection leaves each worker's own journal whole: what it had begun it
    finishes recording by itself.
    """
    api = await drill.start("api").ready()
    workers = [await drill.worker() for _ in range(2)]
    late: list[str] = []
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(BOUND_S)) as session:
        programs = [Program(await client_of(drill, session), api, f"program{number}") for number in range(2)]
        async with asking(*programs):
            for _ in range(times):
                await drill.accepted(100)
                await asyncio.to_thread(end)
                await _told_to_come_back(programs)
                await asyncio.sleep(down_s)  # how long the fault lasts
                slow = await asyncio.to_thread(slowness)
                await asyncio.to_thread(cluster.start)
                late += await _works_again(drill, slow)
            await drill.accepted(100)
    assert api.lives(), "the API does not exit because the database was away"
    assert all(worker.lives() for worker in workers), "no worker exits because the database was away"
    await drill.reconnect()
    await drill.drained()
    found = late + [each for program in programs for each in program.wrong]
    asked, rows = sum(p.taken_count for p in programs) * _BATCH, await drill.value("SELECT count(*) FROM messages")
    if rows != asked:
        found.append(f"I1: {rows} rows of {asked} messages that were asked for until they were taken")
    return found + await drill.violations()


async def _told_to_come_back(programs: list[Program]) -> None:
    """Wait until every program has asked while the database was away, and was told that it is."""
    before = [program.later_count for program in programs]

    def are_told() -> bool:
        return all(program.later_count > count for program, count in zip(programs, before, strict=True))

    await until(are_told, what="every program is told to come back")


async def _works_again(drill: Drill, slow: float) -> list[str]:
    """Wait until what was taken after the database's start is sent; says how long both took, and if it was too long."""
    began_ns, known = boot_ns(), len(drill.client.ids())
    await until(lambda: len(drill.client.ids()) > known, what="submissions are taken again")
    taken_s = (boot_ns() - began_ns) / 1e9

    def is_sent() -> bool:
        new = set(drill.client.ids()[known:])
        return any(acceptance.message_id in new for acceptance in drill.acceptances())

    await until(is_sent, what="what was taken again is sent", poll_s=0.1)
    sent_s = (boot_ns() - began_ns) / 1e9
    say(f"taken again {taken_s:.1f} s after the database's start, sent {sent_s:.1f} s after it")
    return _too_late("F26: what was taken after the database's start was sent", began_ns, sent_s, _RECOVERY_S, slow)


def _too_late(what: str, began_ns: int, took_s: float, wanted_s: float, slow_before: float) -> list[str]:
    """Judge a figure by its row, times how slow the machine was before it or is after it, and where it stood still."""
    most_s = wanted_s * max(slow_before, slowness()) + stood_still_s(began_ns, began_ns + int(took_s * 1e9))
    return [f"{what} after {took_s:.1f} s, {most_s:.1f} s at most are wanted here"] if took_s > most_s else []


async def power_is_lost(drill: Drill, cluster: Cluster, *, times: int, waiting: int) -> list[str]:
    """F20: everything ends at once and the machine starts again: another boot, the ends of the journals are lost.

    Takes:   waiting: how many messages of each sender wait when it happens, besides those that are just submitted.
    """
    senders = {guarantee: await drill.sender(guarantee, connections=CONNECTIONS) for guarantee in GUARANTEES}
    workers: list[Process] = []
    in_doubt: Counter[str] = Counter()
    found: list[str] = []
    for _ in range(times):
        for sender in senders.values():
            await drill.admit(sender, waiting)
        drill.faults({"action": "slow", "stage": "dot", "delay_ms": 10})
        workers += [await drill.worker() for _ in range(2 - len(workers))]
        async with submitting(drill, *senders.values()):
            await drill.accepted(150)
            for worker in workers:
                worker.kill()
            await asyncio.to_thread(cluster.crash)
        drill.faults()
        found += await _starts_again(drill, cluster, senders["at_least_once"], in_doubt)
        workers = [drill.processes[-1]]
    await drill.drained(bound_s=BOUND_S * (2 + times * waiting / 5_000))
    return found + await drill.violations(duplicates=in_doubt["at_least_once"], uncertain=in_doubt["at_most_once"])


async def _starts_again(drill: Drill, cluster: Cluster, sender: Sender, in_doubt: Counter[str]) -> list[str]:
    """Start the machine and one worker; adds to `in_doubt` what was leased when it went down, by its promise."""
    for journal in (drill.folder / "data" / "journals").glob("*.journal"):
        lose_the_end(journal)
    slow, began_ns = slowness(), boot_ns()
    await asyncio.to_thread(cluster.start)
    await drill.reconnect()
    leased = await drill.rows(
        "SELECT s.bulk_guarantee, count(*) FROM queue q JOIN lanes l ON l.id = q.lane_id"
        " JOIN senders s ON s.id = l.sender_id WHERE q.state = 1 GROUP BY 1"
    )
    in_doubt.update(dict(leased))
    await drill.admit(sender, 1)
    await drill.worker()
    await until(
        lambda: bool(drill.acceptances(since_ns=began_ns)), what="the first message is sent again",
        bound_s=2 * BOUND_S, poll_s=0.2,
    )  # fmt: skip
    first_s = (drill.acceptances(since_ns=began_ns)[0].boot_ns - began_ns) / 1e9
    say(f"the first message was sent {first_s:.1f} s after the machine's start")
    return _too_late("F20: the first message was sent", began_ns, first_s, _FIRST_SEND_S, slow)


async def crash_after_the_answer(drill: Drill, cluster: Cluster, *, times: int = 1) -> list[str]:
    """F27 at its sharpest: the database crashes directly after it has acknowledged, with a writer of WAL that rests."""
    sender = await drill.sender("at_most_once")
    for _ in range(times):
        for _ in range(30):
            await drill.admit(sender, 1)
        await asyncio.to_thread(cluster.crash)
        await asyncio.to_thread(cluster.start)
        await drill.reconnect()
    await drill.worker()
    await drill.drained()
    return await drill.violations()
