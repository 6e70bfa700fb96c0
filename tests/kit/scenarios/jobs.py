"""Drills about jobs: whatever is killed, every job is done, none is lost, and what is repeated is counted and fenced.

Each gives a `Report`; `violations` is empty when the run was clean.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from outrider.base.errors import Unavailable
from outrider.base.ids import DEFAULT_TENANT
from outrider.data.db import Role
from outrider.domain.jobs.enqueue import enqueue_many
from tests.kit import marking
from tests.kit.cluster import Cluster
from tests.kit.drill import OPERATOR, Drill
from tests.kit.processes import Process, until
from tests.kit.third_party import path_with

TAKEN_OVER_S = 45.0
"""A dead worker's jobs go on elsewhere within this; the bound of the waits here has room for a busy machine."""

_BOUND_S = 300.0
_BATCH = 500
_DOWN_S = 1.0


@dataclass(slots=True)
class Report:
    """What became of the jobs.

    begun     runs that began; stored: runs whose row was committed; repeats: stored runs beyond one per job
    refused   runs that were told, before they stored anything, that the job is another's now
    """

    jobs: int
    done: int
    begun: int
    stored: int
    repeats: int
    refused: int
    violations: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """In one line, for the log of a release run."""
        return (
            f"{self.done} of {self.jobs} jobs done, {self.begun} runs begun, {self.stored} stored, "
            f"{self.repeats} repeated, {self.refused} refused"
        )


async def prepare(drill: Drill) -> Path:
    """Make the table and the ledger's folder, and let the processes know the job type."""
    folder = drill.folder / "marks"
    folder.mkdir()
    await drill.execute_as_login(marking.TABLE)
    path = path_with(drill.folder, {"outrider.plugins.jobs": ["marking = tests.kit.marking:JOB"]})
    drill.command = drill.command.with_(PYTHONPATH=path)
    return folder


async def add(drill: Drill, count: int, *, lasts_ms: int = 0, first: int = 0) -> list[UUID]:
    """Enqueue so many jobs and write down which were acknowledged; a database that is away is waited for."""
    folder = str(drill.folder / "marks")
    ids: list[UUID] = []
    for begin in range(first, first + count, _BATCH):
        numbers = range(begin, min(begin + _BATCH, first + count))
        many = [marking.Arguments(number, folder, lasts_ms) for number in numbers]
        async with drill.db.uow(Role.APP, DEFAULT_TENANT) as uow:
            added = await enqueue_many(uow, OPERATOR, marking.JOB, many)
        ids += added
    return ids


async def workers_are_killed(drill: Drill, *, count: int, kills: int, lasts_ms: int = 20) -> Report:
    """F25: of two schedulers one is killed again and again under load; a new one takes its place."""
    await prepare(drill)
    running: list[Process] = [await drill.scheduler() for _ in range(2)]
    await add(drill, count, lasts_ms=lasts_ms)
    for number in range(kills):
        await _done(drill, count * (number + 1) // (kills + 2))
        running.pop(0).kill()
        running.append(await drill.scheduler())
    await _done(drill, count)
    return await report(drill, count)


async def database_crashes(drill: Drill, cluster: Cluster, *, count: int, crashes: int) -> Report:
    """F27: the database crashes again and again under load; nobody exits, every job is done."""
    await prepare(drill)
    running = [await drill.scheduler() for _ in range(2)]
    await add(drill, count)
    for number in range(crashes):
        await _done(drill, count * (number + 1) // (crashes + 2))
        await asyncio.to_thread(cluster.crash)
        await asyncio.sleep(_DOWN_S)
        await asyncio.to_thread(cluster.start)
        await drill.reconnect()
    await _done(drill, count)
    found = await report(drill, count)
    found.violations += [f"{each.name} ended: {each.said()}" for each in running if not each.lives()]
    return found


async def frozen(drill: Drill, *, count: int) -> Report:
    """F13: a scheduler stands still for longer than it may; its jobs are done elsewhere, and it stores none of them."""
    await prepare(drill)
    victim = await drill.scheduler(queue_concurrency=str(count))
    await add(drill, count, lasts_ms=2000)
    await until(lambda: len(_begun(drill)) == count, what="every job is begun")
    victim.freeze()
    await drill.scheduler(queue_concurrency=str(count))
    await _done(drill, count)
    victim.thaw()
    await until(lambda: _told(drill, "refused") == count, what="the late runs are refused")
    return await report(drill, count)


async def report(drill: Drill, count: int) -> Report:
    """Compare ledger, rows and history."""
    lines = marking.ledger(drill.folder / "marks")
    begun = Counter(line.number for line in lines if line.what == "began")
    rows = await drill.rows("SELECT number, count(*) FROM job_marks GROUP BY number")
    stored = {row[0]: row[1] for row in rows}
    states = await drill.rows(
        "SELECT (j.arguments ->> 'number')::int, j.state, (j.result)::text,"
        " count(*) FILTER (WHERE s.state = 'processing'), count(*) FILTER (WHERE s.state = 'succeeded')"
        " FROM jobs j JOIN job_states s ON s.tenant_id = j.tenant_id AND s.job_id = j.id"
        " WHERE j.type = 'marking' GROUP BY j.tenant_id, j.id"
    )
    done = {row[0] for row in states if row[1] == "succeeded"}
    found: list[str] = []
    found += [f"job {number} is not done" for number in sorted(set(range(count)) - done)]
    found += [f"job {number} is done and stored nothing" for number in sorted(done - set(stored))]
    for number, _, result, runs, ends in states:
        if ends != 1 or result != str(number):
            found.append(f"job {number} succeeded {ends} times, its result is {result}")
        if not stored.get(number, 0) <= runs:
            found.append(f"job {number} was stored {stored[number]} times in {runs} runs: an unfenced run stored")
        if begun[number] > runs:
            found.append(f"job {number} began {begun[number]} times in {runs} recorded runs")
    return Report(
        jobs=count,
        done=len(done),
        begun=sum(begun.values()),
        stored=sum(stored.values()),
        repeats=sum(stored.values()) - len(stored),
        refused=sum(line.what == "refused" for line in lines),
        violations=found,
    )


def _begun(drill: Drill) -> set[int]:
    return {line.number for line in marking.ledger(drill.folder / "marks")}


def _told(drill: Drill, what: str) -> int:
    return sum(line.what == what for line in marking.ledger(drill.folder / "marks"))


async def _done(drill: Drill, count: int) -> None:
    """Wait until so many jobs are done, the database being away now and then."""

    async def is_reached() -> bool:
        with suppress(Unavailable):
            done = await drill.value("SELECT count(*) FROM jobs WHERE type = 'marking' AND state = 'succeeded'")
            return bool(done >= count)
        return False

    await until(is_reached, what=f"{count} jobs are done", bound_s=_BOUND_S, poll_s=0.05)
