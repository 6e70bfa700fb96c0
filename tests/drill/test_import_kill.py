"""F25, F87, C59: an import killed -9 again and again goes on at its checkpoint and ends as an uninterrupted one."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest

from outrider.domain.contacts.imports.run import BATCH_ROWS
from tests.kit.audience import write_csv
from tests.kit.command import migrated_command

pytestmark = pytest.mark.timeout(600)

COUNT = 4 * BATCH_ROWS + 321
KILLS = ("import.batch:1:kill", "import.committed:1:kill", "import.batch:2:kill", "import.looked:1:kill")
"""Before the first commit; after one; in the second batch of a run that went on; between looking and writing."""


async def test_an_import_killed_again_and_again_stores_every_row_once(
    new_database: Callable[..., str], tmp_path: Path
) -> None:
    command = migrated_command(new_database, tmp_path / "data")
    rows = ([f"p{n}@example.org", f"Person {n}", f"x{n}", "yes", f"town {n % 7}"] for n in range(COUNT))
    path = write_csv(tmp_path / "people.csv", ["email", "name", "external id", "consent", "town"], rows)
    arguments = ("contacts", "import", str(path), "--consent-source", "form", "--list", "News")
    checkpoints = []
    connection = await asyncpg.connect(command.environment["OUTRIDER_DATABASE_URL"])
    try:
        await connection.execute("SET ROLE outrider_engine")
        for number, point in enumerate(KILLS):
            log = tmp_path / f"hits{number}"
            killed = command.with_(OR_FAILPOINT=point, OR_FAILPOINT_LOG=str(log)).run(*arguments)
            assert killed.code == -signal.SIGKILL, killed.err
            assert log.read_text().splitlines()[-1].split()[::2] == [point.split(":")[0], "kill"]
            checkpoints.append(await connection.fetchval("SELECT checkpoint_line FROM imports"))
            assert await connection.fetchval("SELECT row_count = created_count FROM imports")
        assert checkpoints == [0, BATCH_ROWS + 1, 2 * BATCH_ROWS + 1, 2 * BATCH_ROWS + 1]
        done = command.run(*arguments)
        assert done.code == 0, done.err
        (one,) = await connection.fetch("SELECT state, row_count, created_count, rejected_count FROM imports")
        assert tuple(one) == ("completed", COUNT, COUNT, 0)
        stored = await connection.fetch(
            "SELECT a.address, c.name, c.external_id, c.attributes ->> 'town' FROM contacts c "
            "JOIN addresses a ON a.tenant_id = c.tenant_id AND a.contact_id = c.id"
        )
        assert {tuple(row) for row in stored} == {
            (f"p{n}@example.org", f"Person {n}", f"x{n}", f"town {n % 7}") for n in range(COUNT)
        }
        assert len(stored) == COUNT
        for table in ("list_members", "consents", "consent_events"):
            assert await connection.fetchval(f"SELECT count(*) FROM {table}") == COUNT
    finally:
        await connection.close()
