"""`outrider scheduler` as an operating-system process: ready, healthy, on record, and gone in order whoever asks."""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from outrider.base.ids import DEFAULT_TENANT
from outrider.data.db import Database, Role
from outrider.domain.jobs import search, stats
from outrider.domain.jobs.enqueue import enqueue
from outrider.domain.messages import workers
from tests.kit import spin
from tests.kit.cluster import Cluster
from tests.kit.command import Command, migrated_command
from tests.kit.jobs import TESTER
from tests.kit.processes import BOUND_S, Process, until
from tests.kit.third_party import path_with

SETTINGS = {"OUTRIDER_SCHEDULER_HEALTH_PORT": "0", "OUTRIDER_GRACE_S": "1", "OUTRIDER_LOG_FORMAT": "json"}


@pytest.fixture
def command(new_database: Callable[..., str], tmp_path: Path) -> Command:
    """A database with a key, and a job type of the test's own that a third party would bring."""
    path = path_with(tmp_path, {"outrider.plugins.jobs": ["spin = tests.kit.spin:JOB"]})
    made = migrated_command(new_database, tmp_path).with_(PYTHONPATH=path, **SETTINGS)
    assert made.run("key", "create", "first").code == 0, "records the secret key"
    return made


@pytest.fixture
def processes() -> Iterator[list[Process]]:
    """Whatever the test starts is gone afterwards."""
    started: list[Process] = []
    yield started
    for each in started:
        each.end()


def is_there(path: Path) -> bool:
    """Whether it exists now."""
    return path.exists()


async def started(command: Command, processes: list[Process], folder: Path, name: str = "scheduler") -> Process:
    processes.append(Process.start(command, "scheduler", folder=folder, name=name))
    return await processes[-1].ready()


async def test_a_scheduler_is_on_record_healthy_and_leaves_in_order(
    command: Command, processes: list[Process], tmp_path: Path
) -> None:
    process = await started(command, processes, tmp_path)
    health = await process.health()
    assert health["is_ok"], health
    assert "spin" in health["types"]
    with await asyncio.to_thread(urllib.request.urlopen, f"{process.where}/metrics") as answer:
        metrics = answer.read().decode()
    assert 'outrider_job_runs_total{app="outrider",state="succeeded"}' in metrics
    db = Database(command.environment["OUTRIDER_DATABASE_URL"], pool_size=1)
    async with db.uow(Role.ENGINE) as uow:
        assert [worker.pid for worker in await stats.workers(uow)] == [process.process.pid]

    async def is_on_record() -> bool:
        async with db.uow(Role.ENGINE) as uow:
            seen = [each for each in await workers.listed(uow.raw) if each.process.role == "scheduler"]
        return [(each.process.pid, each.state) for each in seen] == [(process.process.pid, "running")]

    await until(is_on_record, what="its first heartbeat")
    process.ask_to_stop()
    assert await process.ended() == 0, process.said()
    async with db.uow(Role.ENGINE) as uow:
        assert await stats.workers(uow) == []
    await db.close()


async def test_what_it_runs_when_asked_to_stop_is_handed_back_and_its_child_is_gone(
    command: Command, processes: list[Process], tmp_path: Path
) -> None:
    process = await started(command, processes, tmp_path)
    file = tmp_path / "pid"
    db = Database(command.environment["OUTRIDER_DATABASE_URL"], pool_size=1)
    async with db.uow(Role.APP, DEFAULT_TENANT) as uow:
        made = await enqueue(uow, TESTER, spin.JOB, {"rounds": 10**9, "file": str(file)})
    await until(lambda: file.exists() and bool(file.read_text()), what="the child")
    child = Path(f"/proc/{file.read_text()}")
    assert is_there(child)
    process.ask_to_stop()
    assert await process.ended() == 0, process.said()
    await until(lambda: not is_there(child), what="the end of the child")
    async with db.uow(Role.APP, DEFAULT_TENANT) as uow:
        job, history = await search.get(uow, made.id)
    await db.close()
    assert (job.state, job.attempt) == ("enqueued", 0)
    assert history[-1].reason == "its process was stopped"


async def test_the_child_of_a_job_does_not_outlive_a_killed_scheduler(
    command: Command, processes: list[Process], tmp_path: Path
) -> None:
    process = await started(command, processes, tmp_path)
    file = tmp_path / "pid"
    db = Database(command.environment["OUTRIDER_DATABASE_URL"], pool_size=1)
    async with db.uow(Role.APP, DEFAULT_TENANT) as uow:
        await enqueue(uow, TESTER, spin.JOB, {"rounds": 10**9, "file": str(file)})
    await db.close()
    await until(lambda: file.exists() and bool(file.read_text()), what="the child")
    child = Path(f"/proc/{file.read_text()}")
    process.kill()
    await until(lambda: not is_there(child), what="the end of the child")


async def test_it_ends_with_the_process_that_started_it(
    command: Command, processes: list[Process], tmp_path: Path
) -> None:
    process = await started(command, processes, tmp_path)
    assert process.process.stdin is not None
    process.process.stdin.close()
    assert await process.ended() == 0, process.said()


async def test_it_ends_while_the_database_is_away(tmp_path: Path, processes: list[Process]) -> None:
    with Cluster.open() as cluster:
        command = migrated_command(lambda _template: cluster.url, tmp_path).with_(**SETTINGS)
        assert (await asyncio.to_thread(command.run, "key", "create", "first")).code == 0
        process = await started(command, processes, tmp_path)
        await asyncio.to_thread(cluster.crash)
        process.ask_to_stop()
        async with asyncio.timeout(BOUND_S):
            assert await process.ended() == 0, process.said()
        await asyncio.to_thread(cluster.start)


async def test_two_run_side_by_side_and_share_the_work(
    command: Command, processes: list[Process], tmp_path: Path
) -> None:
    command = command.with_(OUTRIDER_QUEUE_CONCURRENCY="1")
    first = await started(command, processes, tmp_path, "first")
    second = await started(command, processes, tmp_path, "second")
    assert first.where != second.where
    db = Database(command.environment["OUTRIDER_DATABASE_URL"], pool_size=2)
    ids = []
    async with db.uow(Role.APP, DEFAULT_TENANT) as uow:
        ids = [(await enqueue(uow, TESTER, spin.JOB, {"rounds": 3000})).id for _ in range(6)]

    async def are_done() -> bool:
        async with db.uow(Role.APP, DEFAULT_TENANT) as uow:
            return (await search.select(uow, search.Filter(states=["succeeded"]))).count == len(ids)

    await until(are_done, what="every job")
    async with db.uow(Role.ENGINE) as uow:
        rows = await uow.raw.fetch("SELECT job_id FROM job_states WHERE state = 'processing'")
    assert len(rows) == len(ids), "each is begun once"
    # each has room for one: two that do not end are both begun only if both processes work
    async with db.uow(Role.APP, DEFAULT_TENANT) as uow:
        endless = [(await enqueue(uow, TESTER, spin.JOB, {"rounds": 10**9})).id for _ in range(2)]
    at_work = "SELECT worker_id FROM job_states WHERE state = 'processing' AND job_id = ANY ($1::uuid[])"

    async def are_begun() -> bool:
        async with db.uow(Role.ENGINE) as uow:
            return len({row["worker_id"] for row in await uow.raw.fetch(at_work, endless)}) == 2

    await until(are_begun, what="both at work")
    await db.close()
