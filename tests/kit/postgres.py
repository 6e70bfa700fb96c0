"""One real PostgreSQL for a whole test run, and a database of its own for whoever asks.

Owns the test cluster: the product's own embedded server, in memory-backed storage when there is any, safe settings on.

API
    shared_server() -> SharedServer          starts ONE cluster per process at first use; stopped when the run ends
        .url                                 role and database `outrider` (CREATEROLE, CREATEDB, no superuser)
        .superuser_url                       role `postgres`, for looking at what the product must not be able to do
        .url_of(database, superuser=False)   the same for another database
        .server                              the outrider.data.embedded_postgres.Server itself (pid, log_dir, …)
    fresh_database(template=None) -> str     URL of a new database owned by `outrider`, copied from `template` (a name);
                                             "migrated" is the schema of this release, made once per run
    drop_database(url)                       drops it, connections included
    make_template(name, fill) -> str         makes the database `name` once per run: `fill(url)` migrates or loads it
    run_sql(url, *statements)                executes statements from synchronous code
    IS_WAITED_FOR                            asks whether a session waits for what that of a process id ($1) holds
    run_apart(coroutine) -> result           runs a coroutine on an event loop of its own, from any code

Fixtures (registered in tests/conftest.py)
    server_url          session   URL of `outrider` on the shared server
    superuser_url       session   URL of `postgres` on the shared server
    new_database        session   factory: new_database(template: str | None = None) -> url; all are dropped at the end
    database_url        function  a new empty database for one test
    migrated_url        function  a new database with the schema of this release for one test
All of it is synchronous and may be called from async tests as well.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import re
import secrets
import shutil
import tempfile
import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import pytest

from outrider.base.errors import OutriderError
from outrider.data import migrate
from outrider.data.embedded_postgres import Server, ensure, stop
from outrider.data.embedded_postgres.locks import FileLock

MIGRATED = "migrated"
IS_WAITED_FOR = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND $1::int = ANY (pg_blocking_pids(pid)))"
_PREFIX = "outrider-tests-"
_ENOUGH_BYTES = 2 << 30
_QUICK = {
    "max_connections": "200",
    "shared_buffers": "128MB",
    "min_wal_size": "128MB",
    "max_wal_size": "1GB",
    "dynamic_shared_memory_type": "posix",
}
_made_templates: set[str] = set()
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class SharedServer:
    """The one cluster of this test run."""

    server: Server

    def url_of(self, database: str, *, superuser: bool = False) -> str:
        """The URL of one of its databases."""
        url = self.server.superuser_url if superuser else self.server.url
        return url.replace("@/outrider?", f"@/{database}?")

    @property
    def url(self) -> str:
        """The login role's own database."""
        return self.server.url

    @property
    def superuser_url(self) -> str:
        """The superuser, in the login role's database."""
        return self.server.superuser_url


def open_folder(parent: Path | None = None) -> Path:
    """A new folder that every account may pass: root's server runs as another user, who may not enter pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent or _fast_folder()))
    folder.chmod(0o755)
    return folder


@cache
def shared_server() -> SharedServer:
    """Start the cluster of this test run, or give the one already started."""
    _sweep_killed_runs()
    folder = open_folder()
    lock = run_lock(folder)
    server = ensure(folder / "pg", settings=_QUICK)

    def end() -> None:
        server.release()
        shutil.rmtree(folder, ignore_errors=True)
        lock.close()

    atexit.register(end)
    return SharedServer(server)


def fresh_database(template: str | None = None) -> str:
    """A new database owned by `outrider`; `template` is the name of a database nobody is connected to."""
    server = shared_server()
    if template == MIGRATED:
        make_template(MIGRATED, lambda url: run_apart(_migrate(url)))
    name = f"test_{secrets.token_hex(6)}"
    source = f" TEMPLATE {template}" if template else ""
    run_sql(server.url_of("postgres"), f"CREATE DATABASE {name}{source}")
    return server.url_of(name)


def drop_database(url: str) -> None:
    """Drop a database made by `fresh_database`, whoever is connected to it."""
    name = _database_of(url)
    # as the superuser: an autovacuum worker or a superuser's connection may still be there
    superuser = shared_server().url_of("postgres", superuser=True)
    run_sql(superuser, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def make_template(name: str, fill: Callable[[str], None]) -> str:
    """Make a template database once per run; `fill(url)` must leave no connection open."""
    if name not in _made_templates:
        server = shared_server()
        run_sql(server.url_of("postgres"), f"CREATE DATABASE {name}")
        try:
            fill(server.url_of(name))
        except BaseException:
            drop_database(server.url_of(name))  # whoever asks next is to see this failure again, not half a template
            raise
        _made_templates.add(name)
    return name


def run_sql(url: str, *statements: str) -> None:
    """Execute statements one after another, from synchronous code, also where an event loop is running."""

    async def work() -> None:
        connection = await asyncpg.connect(url)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    run_apart(work())


def run_apart(work: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine to its end on an event loop of its own, in a thread of its own."""
    results: list[_T] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            results.append(asyncio.run(work))
        except BaseException as error:  # noqa: BLE001 - handed to the caller's thread below
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]


@pytest.fixture(scope="session")
def server_url() -> str:
    """The URL of the login role on the shared server."""
    return shared_server().url


@pytest.fixture(scope="session")
def superuser_url() -> str:
    """The URL of the superuser on the shared server."""
    return shared_server().superuser_url


@pytest.fixture(scope="session")
def new_database() -> Iterator[Callable[..., str]]:
    """A factory of databases, dropped when the run ends."""
    made: list[str] = []

    def factory(template: str | None = None) -> str:
        made.append(fresh_database(template))
        return made[-1]

    yield factory
    for url in made:
        drop_database(url)


@pytest.fixture
def database_url() -> Iterator[str]:
    """A new empty database for one test."""
    url = fresh_database()
    yield url
    drop_database(url)


@pytest.fixture
def migrated_url() -> Iterator[str]:
    """A new database with the schema of this release for one test."""
    url = fresh_database(MIGRATED)
    yield url
    drop_database(url)


async def _migrate(url: str) -> None:
    await migrate.upgrade(url)


def _database_of(url: str) -> str:
    found = re.search(r"@/(\w+)\?", url)
    if found is None:
        raise ValueError(url)
    return found[1]


def _fast_folder() -> Path:
    memory = Path("/dev/shm")
    if os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > _ENOUGH_BYTES:
        return memory
    return Path(tempfile.gettempdir())


def run_lock(folder: Path) -> FileLock:
    """Held as long as the run lives, however it ends; never there without being held."""
    new = folder / "run.lock.new"
    lock = FileLock(os.open(new, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    lock.take()
    new.rename(folder / "run.lock")
    return lock


def _sweep_killed_runs() -> None:
    """Stop and remove what test runs left that were killed."""
    for folder in _fast_folder().glob(f"{_PREFIX}*"):
        try:
            lock = FileLock(os.open(folder / "run.lock", os.O_RDWR | os.O_CLOEXEC))
        except OSError:
            continue
        try:
            if lock.take():
                for start_lock in folder.rglob("start.lock"):
                    stop(start_lock.parent)
                shutil.rmtree(folder, ignore_errors=True)
        except OutriderError:
            continue
        finally:
            lock.close()
