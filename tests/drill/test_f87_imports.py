"""F87: dry runs, imports and undos, killed -9 or with the database crashed under them, end as undisturbed ones."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from outrider.base.ids import DEFAULT_TENANT
from outrider.base.registry import discover
from outrider.base.secret import new_key
from outrider.data.db import Role
from outrider.domain.contacts.imports.run import BATCH_ROWS
from outrider.domain.jobs.enqueue import enqueue
from outrider.domain.people import undo
from outrider.domain.people.undo import PAGE
from tests.kit.audience import ACTOR, Audience, import_file, write_csv
from tests.kit.cluster import Cluster
from tests.kit.command import Command, command, migrated_command
from tests.kit.drill import Drill
from tests.kit.processes import BOUND_S, until

pytestmark = pytest.mark.timeout(600)

HEADER = ["email", "name", "external id", "consent", "town"]
COUNTS = (
    "row_count", "created_count", "updated_count", "unchanged_count", "rejected_count", "suppressed_count",
    "kept_withdrawn_count",
)  # fmt: skip
CONTACTS = (
    "SELECT a.address, c.name, c.external_id, c.attributes ->> 'town' FROM contacts c "
    "JOIN addresses a ON a.tenant_id = c.tenant_id AND a.contact_id = c.id ORDER BY 1"
)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster.open() as made:
        yield made


def people(folder: Path, count: int) -> Path:
    """A file of people, and then of half of them again with something else, in other batches."""
    rows = [[f"p{n}@example.org", f"Person {n}", f"x{n}", "yes", "Bonn"] for n in range(count)]
    rows += [[f"p{n}@example.org", f"Person {n}", "", "", f"Rom {n % 3}"] for n in range(0, count, 2)]
    return write_csv(folder / "people.csv", HEADER, rows)


def taken(program: Command, path: Path, *more: str) -> dict[str, int]:
    done = program.run("contacts", "import", str(path), "--consent-source", "form", "--json", *more).json()
    return {name: done[name] for name in COUNTS}


async def test_a_dry_run_killed_half_way_goes_on_and_says_what_the_import_then_does(
    new_database: Callable[..., str], tmp_path: Path
) -> None:
    program = migrated_command(new_database, tmp_path / "data")
    path = people(tmp_path, 2 * BATCH_ROWS)
    arguments = ("contacts", "import", str(path), "--consent-source", "form", "--dry-run")
    for point in ("import.committed:1:kill", "import.batch:2:kill"):
        killed = program.with_(OR_FAILPOINT=point).run(*arguments)
        assert killed.code == -signal.SIGKILL, killed.err
    would = taken(program, path, "--dry-run")
    connection = await asyncpg.connect(program.environment["OUTRIDER_DATABASE_URL"])
    try:
        await connection.execute("SET ROLE outrider_engine")
        assert await connection.fetchval("SELECT count(*) FROM contacts") == 0
        assert await connection.fetchval("SELECT count(*) FROM import_keys") == 0
        assert await connection.fetchval("SELECT count(*) FROM imports") == 1
    finally:
        await connection.close()
    assert would == taken(program, path)
    assert (would["created_count"], would["updated_count"]) == (2 * BATCH_ROWS, BATCH_ROWS)


def test_an_import_under_which_the_database_crashes_goes_on_when_it_is_back(cluster: Cluster, tmp_path: Path) -> None:
    program = command(tmp_path / "data", url=cluster.url, key=new_key())
    path = people(tmp_path, 2 * BATCH_ROWS)
    stopping = program.with_(OR_FAILPOINT="import.batch:2:stop")
    process = stopping.start("contacts", "import", str(path), "--consent-source", "form", stdin=subprocess.DEVNULL)
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status), "it stands still inside its second batch"
    cluster.crash()
    cluster.start()
    process.send_signal(signal.SIGCONT)
    _, err = process.communicate(timeout=BOUND_S)
    assert process.returncode == 0, err
    rows, counts = asyncio.run(_looked(cluster.url))
    assert counts == ("completed", 3 * BATCH_ROWS, 2 * BATCH_ROWS, BATCH_ROWS)
    towns = {n: f"Rom {n % 3}" if n % 2 == 0 else "Bonn" for n in range(2 * BATCH_ROWS)}
    assert rows == sorted((f"p{n}@example.org", f"Person {n}", f"x{n}", town) for n, town in towns.items())


async def _looked(url: str) -> tuple[list[tuple[Any, ...]], tuple[Any, ...]]:
    """Who is there, and what the import says."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("SET ROLE outrider_engine")
        rows = [tuple(row) for row in await connection.fetch(CONTACTS)]
        (counts,) = await connection.fetch("SELECT state, row_count, created_count, updated_count FROM imports")
        return rows, tuple(counts)
    finally:
        await connection.close()


async def test_an_undo_whose_schedulers_are_killed_puts_everything_back_once(tmp_path: Path) -> None:
    count = 4 * PAGE + 7
    async with Drill.open(tmp_path) as drill:
        audience = Audience(drill.db)
        known = [[f"p{n}@example.org", f"Person {n}", f"x{n}", "yes", "Bonn"] for n in range(0, count, 2)]
        await import_file(audience, write_csv(tmp_path / "known.csv", HEADER, known), consent_source="form")
        before = await drill.rows(CONTACTS)
        rows = [[f"p{n}@example.org", "Wrong", f"x{n}", "no", "Rom"] for n in range(count)]
        view = await import_file(audience, write_csv(tmp_path / "wrong.csv", HEADER, rows), consent_source="form")
        types = discover("outrider.plugins.jobs", "JOB")
        async with drill.db.uow(Role.APP, DEFAULT_TENANT) as uow:
            await undo.begin(uow, ACTOR, view.id, count=count, reason="wrong file")
            arguments = {"import_id": view.id, "count": count}
            job = await enqueue(uow, ACTOR, types["undo_import"], arguments, dedup_key=str(view.id))
            await undo.has_job(uow, view.id, job.id)
        for point in ("undo.page:2", "undo.page:1"):
            await drill.start("scheduler", at=f"{point}:kill").killed("undo.page")
        await drill.scheduler()
        done = "SELECT undo_state = 'completed' FROM imports WHERE id = $1"
        await until(lambda: drill.value(done, view.id), what="the undo ends")
        assert await drill.rows(CONTACTS) == before
        counts = "SELECT restored_count, deleted_count, left_count FROM imports WHERE id = $1"
        (row,) = await drill.rows(counts, view.id)
        assert tuple(row) == (len(known), count - len(known), 0)
        statuses = await drill.rows("SELECT status, count(*) FROM consents GROUP BY 1")
        assert [tuple(each) for each in statuses] == [("granted", len(known))]
