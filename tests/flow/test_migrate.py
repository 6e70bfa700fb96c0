"""Migrations on a real server: up to head and no further, generated from what is declared, safe under traffic."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import text

from outrider import migrations
from outrider.base.errors import Misconfigured, Refused
from outrider.data import migrate, revision
from tests.kit.office import open_office
from tests.kit.postgres import run_sql, shared_server

OURS = revision.known()
NEXT = f"{int(OURS[-1]) + 1:04d}"
ONE_MORE = f'''
"""Add a column."""
from alembic import op

revision = "{NEXT}"
down_revision = "{OURS[-1]}"
branch_labels = None
depends_on = None


def upgrade():
    op.execute("SET LOCAL ROLE outrider_owner")
    op.execute("ALTER TABLE lists ADD COLUMN note text")
    op.execute("RESET ROLE")
'''


@pytest.fixture
def versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The migrations, copied, so that a test may add to them."""
    copy = tmp_path / "migrations"
    shutil.copytree(Path(str(migrations.__file__)).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(revision, "FOLDER", copy)
    return copy / "versions"


async def test_a_database_is_brought_to_head_once(database_url: str) -> None:
    before = await revision.status(database_url)
    assert (before.current, before.pending, before.is_newer) == (None, tuple(OURS), False)
    with pytest.raises(Misconfigured, match="schema too old"):
        await revision.require_current(database_url)
    assert await migrate.upgrade(database_url) == OURS
    assert await migrate.upgrade(database_url) == []
    await revision.require_current(database_url)
    after = await revision.status(database_url)
    assert (after.current, after.pending) == (after.head, ())


def test_the_files_tell_what_alembic_would_do_in_its_order() -> None:
    scripts = ScriptDirectory(str(revision.FOLDER))
    assert revision.known() == [each.revision for each in reversed(list(scripts.walk_revisions()))]
    assert len(scripts.get_heads()) == 1


async def test_a_server_that_may_forget_is_refused_after_the_upgrade(database_url: str) -> None:
    name = database_url.rpartition("@/")[2].partition("?")[0]
    run_sql(database_url, f"ALTER DATABASE {name} SET synchronous_commit = off")
    with pytest.raises(Misconfigured, match="synchronous_commit"):
        await migrate.upgrade(database_url)


async def test_what_is_declared_and_not_there_becomes_a_migration(migrated_url: str, versions: Path) -> None:
    with pytest.raises(Refused, match="nothing to generate"):
        await migrate.generate(migrated_url, "nothing")
    run_sql(migrated_url, "SET ROLE outrider_owner", "DROP INDEX audit_log_at")
    path = await migrate.generate(migrated_url, "Bring the index back")
    assert path.parent == versions
    assert path.name.startswith(f"{NEXT}_")
    assert "create_index('audit_log_at'" in path.read_text()
    with pytest.raises(Misconfigured, match="schema too old"):
        await migrate.generate(migrated_url, "on an old schema")


async def test_writers_go_on_while_a_migration_waits_for_its_lock(migrated_url: str, versions: Path) -> None:
    (versions / f"{NEXT}_one_more.py").write_text(ONE_MORE)
    async with _writing(migrated_url) as written:
        holder = await asyncpg.connect(migrated_url)
        await holder.execute("SET ROLE outrider_engine")
        await holder.execute("BEGIN; SELECT count(*) FROM lists")  # what a report or a dump does, for long
        watcher = await asyncpg.connect(migrated_url)
        running = asyncio.create_task(migrate.upgrade(migrated_url))
        async with asyncio.timeout(60):
            for _ in range(2):  # it gives way to the writers queued behind it, and comes back
                await _until_it_waits(watcher, waits=True)
                await _until_it_waits(watcher, waits=False)
                await _until_written(written, len(written) + 5)
            assert not running.done()
            await holder.close()
            assert await running == [NEXT]
            await _until_written(written, len(written) + 5)
        await watcher.close()


async def test_the_lock_timeout_of_migrations_is_longer_than_the_deadlock_timeout_and_shorter_than_two_seconds(
    migrated_url: str,
) -> None:
    async with revision.connected(revision.login_engine(migrated_url)) as connection:
        asked = "SELECT setting::int FROM pg_settings WHERE name = :name AND unit = 'ms'"
        lock_ms, deadlock_ms = [
            await connection.scalar(text(asked), {"name": name}) for name in ("lock_timeout", "deadlock_timeout")
        ]
    assert lock_ms >= deadlock_ms + 400, "an autovacuum is told to end after the one, and needs a moment for it"
    assert lock_ms < 2_000, "what waits behind it waits as long [F47]"


async def _until_written(written: list[int], count: int) -> None:
    while len(written) < count:  # noqa: ASYNC110 - bounded by the caller
        await asyncio.sleep(0.01)


@asynccontextmanager
async def _writing(url: str) -> AsyncIterator[list[int]]:
    """Insert into the table under migration all the while; a failed insert fails the test."""
    connection = await asyncpg.connect(url)
    await connection.execute("SET ROLE outrider_engine")
    written: list[int] = []
    is_over = asyncio.Event()

    async def write() -> None:
        while not is_over.is_set():
            number = len(written)
            await connection.execute(
                "INSERT INTO lists (tenant_id, name) VALUES ('00000000-0000-0000-0000-000000000001', $1)", f"l{number}"
            )
            written.append(number)
            await asyncio.sleep(0.005)

    task = asyncio.create_task(write())
    try:
        yield written
    finally:
        is_over.set()
        await task
        await connection.close()


async def _until_it_waits(connection: asyncpg.Connection, *, waits: bool) -> None:
    question = (
        "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'outrider migrate'"
        " AND wait_event_type = 'Lock' AND datname = current_database())"
    )
    while await connection.fetchval(question) is not waits:  # noqa: ASYNC110 - the server has no event for it
        await asyncio.sleep(0.01)


async def test_a_login_that_does_not_migrate_sees_whether_the_schema_fits(migrated_url: str) -> None:
    url, password = migrated_url.replace("//outrider:", "//runs_only:"), migrated_url.split(":")[2].partition("@")[0]
    superuser = shared_server().superuser_url
    run_sql(superuser, f"CREATE ROLE runs_only LOGIN PASSWORD '{password}'")
    try:
        with pytest.raises(Misconfigured, match="lacks a right"):
            await revision.status(url)
        run_sql(superuser, "GRANT outrider_app TO runs_only WITH INHERIT FALSE, SET TRUE")
        await revision.require_current(url)
    finally:
        run_sql(superuser, "DROP ROLE runs_only")


async def test_migrations_go_back_and_forth_and_nobody_is_queued_twice_or_missed(migrated_url: str) -> None:
    async with open_office(migrated_url) as office:
        await office.campaign("News")
        await office.fetch("UPDATE campaigns SET state = 'sending', wave = 1, expanded_to = id")
        await office.fetch(
            "INSERT INTO campaigns (tenant_id, name, channel, purpose, sender_id, content_id, list_id, created_by, "
            "state, retry_of) SELECT tenant_id, 'retry', channel, purpose, sender_id, content_id, list_id, 'test', "
            "'sending', id FROM campaigns"
        )
    engine = revision.login_engine(migrated_url)
    async with revision.connected(engine) as connection:
        await connection.run_sync(lambda plain: command.downgrade(migrate._config(plain), "0009"))
        await connection.commit()
    assert (await revision.status(migrated_url)).current == "0009"
    assert await migrate.upgrade(migrated_url) == OURS[OURS.index("0009") + 1 :]
    async with open_office(migrated_url) as office:
        rows = await office.fetch("SELECT name, expanded_to IS NULL, expanded_at IS NULL FROM campaigns ORDER BY name")
    assert rows == [("News", True, True), ("retry", True, False)]
