"""F48: a migration killed -9 at any statement leaves nothing behind, and running it again converges."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import asyncpg
import pytest

from outrider.base.errors import Misconfigured, Unavailable
from outrider.data import migrate, revision
from tests.kit.postgres import fresh_database, run_sql, shared_server
from tests.kit.processes import BOUND_S

IS_EVERY = bool(os.environ.get("OR_ALL_KILL_POINTS"))
pytestmark = pytest.mark.timeout(3600 if IS_EVERY else 600)


_MOST_STATEMENTS, _MOST_COMMITS = 60, 8
"""So much further on is a kill at most, where not every statement and every commit is killed."""


class Killer:
    """The forking process, and the log that proves which points were passed."""

    def __init__(self, url: str, log: Path) -> None:
        self.url = url
        self.log = log
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.kit.forked_migrations", url, str(log)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def migrate(self, armed: str) -> tuple[int, list[str]]:
        """Exit code of one child with this failpoint, and what the failpoint's log got from it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        before = self._lines()
        self._process.stdin.write(f"{armed}\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline()), self._lines()[len(before) :]

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(BOUND_S)
        self._process.stdout.close()

    def _lines(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture
def killer(database_url: str, tmp_path: Path) -> Iterator[Killer]:
    made = Killer(database_url, tmp_path / "hits")
    yield made
    made.close()


async def _objects(url: str) -> set[tuple[str, str]]:
    """Every table, view, index, sequence, function and policy of the schema, and who may do what to it."""
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(
            "SELECT 'class ' || relkind::text, relname || coalesce(relacl::text, '') FROM pg_class"
            " WHERE relnamespace = 'public'::regnamespace"
            " UNION ALL SELECT 'function', proname || prosrc FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
            " UNION ALL SELECT 'policy', tablename || policyname || coalesce(qual, '') FROM pg_policies"
            " UNION ALL SELECT 'column', table_name || '.' || column_name || data_type FROM information_schema.columns"
            " WHERE table_schema = 'public'"
        )
        return {(row[0], row[1]) for row in rows}
    finally:
        await connection.close()


def _steps(most: int) -> Iterator[int]:
    """How much further on each kill is than the last one: by one with OR_ALL_KILL_POINTS set, else by a die."""
    seed = random.randrange(1 << 32)  # noqa: S311 - a choice of test cases
    print(f"seed {seed}")  # noqa: T201 - shown when the test fails
    dice = random.Random(seed)  # noqa: S311 - a choice of test cases
    while True:
        yield 1 if IS_EVERY else dice.randint(1, most)


def _kill_at_statements(killer: Killer) -> int:
    """Kill run after run on one database, each further on than the one before; gives how many kills that were.

    A run begins with what is pending, so that a kill is counted from the beginning again as soon as one migration more
    is through: by steps of one each statement of each migration is killed, and those before the first one each time.
    """
    nth = 1
    for kills, step in enumerate(_steps(_MOST_STATEMENTS)):
        # a dead runner's lock is asked for again and again, which would be counted as well
        asyncio.run(_until_nobody_migrates(killer.url))
        code, passed = killer.migrate(f"migrate.statement:{nth}:kill;migrate.commit:0:kill")
        if code == 0:
            return kills
        assert code == -signal.SIGKILL
        assert passed[-1].split()[:3] == ["migrate.statement", str(nth), "kill"]
        is_one_more_through = any(line.startswith("migrate.commit ") for line in passed)
        nth = step if is_one_more_through else nth + step
    raise AssertionError


def _kill_at_commits(killer: Killer) -> int:
    """Kill runs at their commits, which leaves what they had committed before; gives how many kills that were."""
    nth = 1
    for kills, step in enumerate(_steps(_MOST_COMMITS)):
        code, passed = killer.migrate(f"migrate.commit:{nth}:kill")
        if code == 0:
            return kills
        assert code == -signal.SIGKILL
        assert passed[-1].split()[:3] == ["migrate.commit", str(nth), "kill"]
        nth = 1 + step
    raise AssertionError


def _objects_now(url: str) -> set[tuple[str, str]]:
    return asyncio.run(_objects(url))


def test_a_migration_killed_at_every_statement_leaves_nothing_and_the_next_run_converges(
    killer: Killer, database_url: str, tmp_path: Path
) -> None:
    whole = fresh_database()
    reference = Killer(whole, tmp_path / "reference")
    code, passed = reference.migrate("migrate.statement:0:kill;migrate.commit:0:kill")
    reference.close()
    assert code == 0
    statements = sum(line.startswith("migrate.statement ") for line in passed)
    commits = sum(line.startswith("migrate.commit ") for line in passed)
    assert statements > 200, "the whole schema is more than that"
    expected = _objects_now(whole)

    # kill after kill on one database: whatever one left behind would stop the next
    assert _kill_at_statements(killer) >= (statements if IS_EVERY else statements // _MOST_STATEMENTS)
    assert _objects_now(database_url) == expected
    with closing(Killer(fresh_database(), tmp_path / "commits")) as by_commits:
        assert _kill_at_commits(by_commits) >= (commits if IS_EVERY else commits // _MOST_COMMITS)
    assert _objects_now(by_commits.url) == expected


async def test_a_killed_migration_has_changed_nothing(killer: Killer, database_url: str) -> None:
    code, passed = await asyncio.to_thread(killer.migrate, "migrate.statement:150:kill")
    assert code == -signal.SIGKILL
    assert len(passed) == 150
    await _until_nobody_migrates(database_url)
    names = {name for kind, name in await _objects(database_url) if kind != "column"}
    assert not {name for name in names if not name.startswith("alembic_version")}
    assert (await revision.status(database_url)).pending


async def test_two_runners_at_once_apply_each_migration_once(killer: Killer, database_url: str) -> None:
    code_and_log, applied = await asyncio.gather(
        asyncio.to_thread(killer.migrate, "migrate.statement:0:kill"), migrate.upgrade(database_url)
    )
    assert code_and_log[0] == 0
    assert applied in ([], revision.known())
    assert not (await revision.status(database_url)).pending


async def test_a_runner_that_another_keeps_waiting_gives_up_and_says_so(database_url: str) -> None:
    holder = await asyncpg.connect(database_url)
    try:
        await holder.fetchval("SELECT pg_advisory_lock($1)", migrate.ADVISORY_KEY)
        with pytest.raises(Unavailable, match="another `outrider db migrate` is running"):
            await migrate.upgrade(database_url, wait_s=0.3)
    finally:
        await holder.close()
    assert await migrate.upgrade(database_url)


async def test_a_table_locked_by_somebody_is_waited_for_and_then_migrated(database_url: str) -> None:
    holder = await asyncpg.connect(database_url)
    await holder.execute("CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)")
    await holder.execute("BEGIN; LOCK TABLE alembic_version IN SHARE MODE")
    running = asyncio.create_task(migrate.upgrade(database_url))
    try:
        await _until_somebody_waits(database_url)
        assert not running.done()
    finally:
        await holder.close()
    assert await running
    assert not (await revision.status(database_url)).pending


async def test_locks_that_are_never_given_up_end_in_one_line_and_nothing_half_done(database_url: str) -> None:
    holder = await asyncpg.connect(database_url)
    try:
        await holder.execute("CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)")
        await holder.execute("BEGIN; LOCK TABLE alembic_version IN SHARE MODE")
        with pytest.raises(Unavailable, match="locked by long transactions"):
            await migrate.upgrade(database_url, patience_s=0.0)
    finally:
        await holder.close()
    assert {name for kind, name in await _objects(database_url) if kind == "class r"} == {"alembic_version"}


async def test_a_user_without_createrole_is_told_which_right_lacks(database_url: str) -> None:
    name = "no_rights_" + database_url.rpartition("@/")[2].partition("?")[0][-6:]
    superuser = shared_server().superuser_url
    url_of_user = database_url.replace("//outrider:", f"//{name}:")
    password = url_of_user.partition(f"//{name}:")[2].partition("@")[0]
    run_sql(superuser, f"CREATE ROLE {name} LOGIN PASSWORD '{password}'")
    try:
        with pytest.raises(Misconfigured, match="lacks a right") as caught:
            await migrate.upgrade(url_of_user)
        assert caught.value.code == "database_rights"
        assert password not in str(caught.value)
    finally:
        run_sql(superuser, f"DROP ROLE {name}")


async def test_a_schema_of_a_later_release_is_refused(database_url: str) -> None:
    await migrate.upgrade(database_url)
    run_sql(database_url, "UPDATE alembic_version SET version_num = '9999'")
    found = await revision.status(database_url)
    assert (found.current, found.is_newer, found.pending) == ("9999", True, ())
    for action in (migrate.upgrade, revision.require_current):
        with pytest.raises(Misconfigured, match="newer release"):
            await action(database_url)


async def _until_nobody_migrates(url: str) -> None:
    """The server notices a killed client when it next reads from it."""
    await _until(url, "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'outrider migrate')")


async def _until_somebody_waits(url: str) -> None:
    waits = "wait_event_type = 'Lock' AND datname = current_database()"
    await _until(url, f"SELECT EXISTS (SELECT FROM pg_stat_activity WHERE {waits})")


async def _until(url: str, question: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        async with asyncio.timeout(BOUND_S):
            while not await connection.fetchval(question):  # noqa: ASYNC110 - the server has no event for it
                await asyncio.sleep(0.02)
    finally:
        await connection.close()
