"""F87: an import for which a disk has no room says so, keeps what it has stored, and goes on once there is room."""

from __future__ import annotations

import asyncio
import io
import resource
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from outrider.base.errors import Unavailable
from outrider.base.secret import new_key
from outrider.data.db import Database, Role
from outrider.domain.contacts.imports import control, run
from outrider.domain.contacts.imports.options import Options
from outrider.domain.contacts.imports.run import BATCH_ROWS
from outrider.domain.tenants import keys
from tests.kit.api import Answer, Caller
from tests.kit.audience import Audience, begin_file, write_csv
from tests.kit.cluster import Cluster
from tests.kit.command import command
from tests.kit.drill import OPERATOR, Drill
from tests.kit.processes import BOUND_S, until

pytestmark = pytest.mark.timeout(900)

HEADER = ["email", "name", "consent"]
ROOM_BYTES = 1 << 20


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster.open() as made:
        yield made


def people(folder: Path) -> Path:
    """Three batches; only the last two have consents, so that the table of these is written by the second first."""
    rows = [[f"p{n}@example.org", f"Person {n}", "" if n < BATCH_ROWS else "yes"] for n in range(3 * BATCH_ROWS)]
    return write_csv(folder / "people.csv", HEADER, rows)


async def ask(url: str, statement: str) -> list[tuple[Any, ...]]:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("SET ROLE outrider_engine")
        return [tuple(row) for row in await connection.fetch(statement)]
    finally:
        await connection.close()


class Full:
    """No room for one table: its file is the device that is always full, so that it is the server that says so."""

    def __init__(self, cluster: Cluster, place: Path) -> None:
        self._cluster = cluster
        self._place = place

    @classmethod
    async def at(cls, cluster: Cluster, table: str) -> Full:
        """Take the room away; the table must be empty."""
        connection = await asyncpg.connect(cluster.url)
        try:
            place = await connection.fetchval(f"SELECT pg_relation_filepath('{table}')")
        finally:
            await connection.close()
        made = cls(cluster, cluster.folder / place)
        await asyncio.to_thread(made._take)
        return made

    def _take(self) -> None:
        self._cluster.stop()
        assert self._place.stat().st_size == 0
        self._place.rename(self._kept)
        self._place.symlink_to("/dev/full")
        self._cluster.start()

    def give_back(self) -> None:
        """There is room again."""
        self._cluster.stop()
        self._place.unlink()
        self._kept.rename(self._place)
        self._cluster.start()

    @property
    def _kept(self) -> Path:
        return self._place.with_name(f"{self._place.name}.kept")


async def test_a_database_without_room_is_named_and_the_import_goes_on_where_it_was(
    cluster: Cluster, tmp_path: Path
) -> None:
    path = people(tmp_path)
    full = await Full.at(cluster, "consents")
    async with _pool(cluster.url) as db:
        audience = Audience(db)
        begun = await begin_file(audience, path, Options(consent_source="form"))
        with pytest.raises(Unavailable) as refused:
            await run.run(db, audience.channels, audience.tenant, begun.id, path, patience_s=0.0)
        assert refused.value.code == "database_full"
        assert "room" in refused.value.message
        async with audience.app() as uow:
            view = await control.get(uow, begun.id)
    assert (view.state, view.error, view.row_count) == ("running", None, BATCH_ROWS), "it can be gone on with"
    counts = "SELECT (SELECT count(*) FROM contacts), (SELECT count(*) FROM consents)"
    assert await ask(cluster.url, counts) == [(BATCH_ROWS, 0)], "the second batch left nothing"
    program = command(tmp_path / "data", url=cluster.url, key=new_key())
    process = program.start("contacts", "import", str(path), "--consent-source", "form", "--json")
    try:
        await until(
            lambda: cluster.said().count("No space left on device") > 1,
            what="the database refuses the import that was begun again",
        )
        assert process.poll() is None, "it waits for room"
        await asyncio.to_thread(full.give_back)
        _, err = await asyncio.to_thread(process.communicate, timeout=BOUND_S)
    finally:
        process.kill()  # it would wait for room for ever
        process.communicate()
    assert process.returncode == 0, err
    assert await ask(cluster.url, counts) == [(3 * BATCH_ROWS, 2 * BATCH_ROWS)]
    facts = "SELECT state, row_count, created_count, rejected_count FROM imports"
    assert await ask(cluster.url, facts) == [("completed", 3 * BATCH_ROWS, 3 * BATCH_ROWS, 0)]


@asynccontextmanager
async def _pool(url: str) -> AsyncIterator[Database]:
    db = Database(url, pool_size=4)
    try:
        yield db
    finally:
        await db.close()


async def test_a_machine_without_room_for_the_file_takes_no_import_and_says_why(tmp_path: Path) -> None:
    """The process may write files of a mebibyte only; the file has more."""
    rows = b"".join(b"p%d@example.org\n" % number for number in range(80_000))
    async with Drill.open(tmp_path) as drill:
        async with drill.db.uow(Role.APP, (await drill.sender("at_most_once")).tenant_id) as uow:
            _, key = await keys.create(uow, OPERATOR, name="drill", role="operator", scopes=["imports:write"])
        api = await drill.start("api").ready()
        caller = Caller(api.where.split()[0], {"Authorization": f"Bearer {key}", "Content-Type": "text/csv"})

        async def upload() -> Answer:
            return await caller.post("/api/v1/imports?file_name=x.csv", data=io.BytesIO(b"email\n" + rows))

        before = resource.prlimit(api.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(api.process.pid, resource.RLIMIT_FSIZE, (ROOM_BYTES, before[1]))
        refused = await upload()
        assert (refused.status, refused.code) == (503, "storage_full"), refused.text
        assert "nothing was imported" in refused.text
        assert await drill.value("SELECT count(*) FROM imports") == 0
        assert [path.name for path in (tmp_path / "data" / "imports").iterdir()] == []
        resource.prlimit(api.process.pid, resource.RLIMIT_FSIZE, before)
        taken = await upload()
        assert taken.status == 202, taken.text
        await drill.scheduler()
        done = "SELECT state = 'completed' FROM imports"
        await until(lambda: drill.value(done), what="the import ends", bound_s=300)
        assert await drill.value("SELECT count(*) FROM contacts") == 80_000
