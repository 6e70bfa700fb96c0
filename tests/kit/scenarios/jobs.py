"""Drills about jobs: whatever is killed, every job is done, none is lost, and what is repeated is counted and fenced.

Each gives a `Report`; `violations` is empty when the run was clean.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from outrider.base.errors import Unavailable
from outrider.base.ids import DEFAULT_TENANT
from outrider.base.registry import discover
from outrider.data.db import Role
from outrider.domain.contacts.imports import control
from outrider.domain.contacts.imports.examine import examine
from outrider.domain.contacts.imports.files import ImportFiles
from outrider.domain.contacts.imports.options import Options
from outrider.domain.jobs.enqueue import enqueue, enqueue_many
from outrider.domain.schedules import draft
from outrider.domain.schedules.views import NewSchedule
from outrider.plugins.channels.email import CHANNEL
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
_AT_ONCE = "UPDATE jobs SET arguments = jsonb_set(arguments, '{lasts_ms}', '0') WHERE type = 'marking'"
"""Whoever runs a job of the drill from now on is done with it at once."""


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
    await add(drill, count, lasts_ms=20_000)
    await until(lambda: len(_begun(drill)) == count, what="every job is begun")
    victim.freeze()
    await drill.execute(_AT_ONCE)
    await drill.scheduler(queue_concurrency=str(count))
    await _done(drill, count)
    victim.thaw()
    await until(lambda: _told(drill, "refused") == count, what="the late runs are refused")
    return await report(drill, count)


async def takers_over_are_killed(drill: Drill, *, count: int) -> Report:
    """F25: whoever takes a dead scheduler's jobs over is killed while it does so, and after; the next one goes on."""
    await prepare(drill)
    victim = await drill.scheduler(queue_concurrency=str(count))
    await add(drill, count, lasts_ms=60_000)
    await until(lambda: len(_begun(drill)) == count, what="every job is begun")
    await drill.execute(_AT_ONCE)
    victim.kill()
    for point in ("reap.taken", "reap.committed"):
        await drill.start("scheduler", at=f"{point}:1:kill", queue_concurrency="1").killed(point)
    await drill.scheduler()
    await _done(drill, count)
    return await report(drill, count)


async def killed_while_importing(drill: Drill, *, count: int, kills: Sequence[str]) -> list[str]:
    """F25: scheduler after scheduler is killed between an import's rows and checkpoint, and after it; the last ends it.

    Three kills of one job would be poison: then it is not tried again.
    """
    files = ImportFiles(drill.folder / "data")
    path = await files.receive(_csv(count))
    facts = await asyncio.to_thread(examine, path, Options(), CHANNEL)
    types = discover("outrider.plugins.jobs", "JOB")
    async with drill.db.uow(Role.APP, DEFAULT_TENANT) as uow:
        view = await control.begin(uow, OPERATOR, facts, Options(), "people.csv")
        await files.keep(path, DEFAULT_TENANT, view.id)
        await enqueue(uow, OPERATOR, types["import_contacts"], {"import_id": view.id}, dedup_key=str(view.id))
    for at in kills:
        await drill.start("scheduler", at=f"{at}:kill").killed(at.partition(":")[0])
    await drill.scheduler()
    await until(lambda: drill.value("SELECT state <> 'running' FROM imports"), what="the import ends", bound_s=_BOUND_S)
    await until(lambda: drill.value("SELECT state = 'succeeded' FROM jobs WHERE type = 'import_contacts'"), what="job")
    row = (await drill.rows("SELECT state, row_count, created_count, unchanged_count FROM imports"))[0]
    found = [] if tuple(row) == ("completed", count, count, 0) else [f"the import says {tuple(row)} of {count} rows"]
    for table in ("contacts", "addresses"):
        rows = await drill.value(f"SELECT count(*) FROM {table}")
        if rows != count:
            found.append(f"{rows} rows in {table} for {count} lines")
    crashes = await drill.value("SELECT crashes FROM jobs WHERE type = 'import_contacts'")
    if crashes != len(kills):
        found.append(f"the job counts {crashes} crashes, there were {len(kills)}")
    if left := [each.name for each in (drill.folder / "data" / "imports").iterdir()]:
        found.append(f"files are left: {left}")
    return found


async def killed_while_firing(drill: Drill) -> list[str]:
    """F25, F21: schedulers are killed before and after the commit that fires a schedule: each planned time once."""
    folder = await prepare(drill)
    new = NewSchedule(
        name="often", job_type="marking", cron="* * * * *", timezone="UTC", misfire="all", jitter_s=0,
        arguments={"number": 0, "folder": str(folder)},
    )  # fmt: skip
    async with drill.db.uow(Role.APP, DEFAULT_TENANT) as uow:
        await draft.create(uow, {"marking": marking.JOB}, OPERATOR, new, least_gap_minutes=1)
    await drill.execute(
        "UPDATE schedules SET handled_at = handled_at - interval '5 minutes', handled_wall = NULL,"
        " next_at = next_at - interval '5 minutes', due_at = due_at - interval '5 minutes' WHERE name = 'often'"
    )
    for point in ("schedules.fired", "schedules.committed"):
        await drill.start("scheduler", at=f"{point}:1:kill").killed(point)
    for _ in range(2):
        await drill.scheduler()
    runs = "SELECT {} FROM schedule_runs r JOIN schedules s ON s.id = r.schedule_id WHERE s.name = 'often'"
    await until(
        lambda: drill.value(runs.format("count(*) FILTER (WHERE r.state = 'succeeded') >= 5")),
        what="five planned times are made up for",
        bound_s=_BOUND_S,
    )
    rows = await drill.rows(runs.format("r.planned_at, count(*)") + " GROUP BY 1 HAVING count(*) > 1")
    found = [f"{count} runs were planned for {planned_at}" for planned_at, count in rows]
    rows = await drill.rows(
        "SELECT planned_at, count(*) FROM jobs WHERE type = 'marking' GROUP BY 1 HAVING count(*) > 1"
    )
    found += [f"{count} jobs were made for {planned_at}" for planned_at, count in rows]
    gaps = await drill.value(
        runs.format("max(r.planned_at) - min(r.planned_at) - (count(*) - 1) * interval '1 minute'")
    )
    return found + ([f"planned times are missing: {gaps}"] if gaps else [])


async def _csv(count: int) -> AsyncIterator[bytes]:
    yield b"email,name\n"
    for first in range(0, count, 1000):
        yield "".join(f"p{n}@example.com,P{n}\n" for n in range(first, min(first + 1000, count))).encode()


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
