"""Real servers as whole processes for every benchmark: PostgreSQL, Redis, Postfix's `smtp-sink`, Node peers.

Owns starting and stopping; never measures. Everything started here is stopped when its block ends; data lives in a
throw-away folder on a real disk, not in memory. The kernel ends what a killed benchmark leaves, but for its folder.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import asyncpg

from bench.kit.figures import say
from outrider.data.embedded_postgres import programs
from outrider.data.embedded_postgres.account import account_for

PEER = Path(__file__).resolve().parent.parent / "peers" / "bullmq"
POSTGRES_SETTINGS = {
    "shared_buffers": "1GB",
    "max_wal_size": "8GB",
    "synchronous_commit": "on",
    "jit": "off",
    "max_connections": "200",
    "checkpoint_timeout": "30min",
    "timezone": "UTC",
}
"""As in the decision about the queue table: what an operator would set on a machine of 16 GB and more."""

_T = TypeVar("_T")


def need(*programs_: str) -> None:
    """Have programs on this machine: as root missing ones are installed from the distribution, else named.

    Services that their packages would start are not started.
    """
    packages = {
        "smtp-sink": "postfix",
        "smtp-source": "postfix",
        "redis-server": "redis-server",
        "node": "nodejs",
        "npm": "npm",
    }
    missing = sorted({packages[program] for program in programs_ if not _which(program)})
    if not missing:
        return
    if os.geteuid() == 0 and shutil.which("apt-get"):
        say(f"installing {', '.join(missing)}")
        with _services_stay_off():
            environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
            subprocess.run(["apt-get", "update", "-qq"], check=True, env=environment)
            subprocess.run(
                ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing],
                check=True,
                env=environment,
                stdout=subprocess.DEVNULL,
            )
    else:
        sys.exit(
            f"this benchmark needs {', '.join(missing)}: "
            f"sudo apt-get install --no-install-recommends {' '.join(missing)}"
        )


def _which(program: str) -> str | None:
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


@contextmanager
def _services_stay_off() -> Iterator[None]:
    """Debian starts what it installs unless a policy says no."""
    policy = Path("/usr/sbin/policy-rc.d")
    if policy.exists():
        yield
        return
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink()


def free_port() -> int:
    """A port of the loopback address that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run(work: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine to its end from synchronous code."""
    return asyncio.run(work)


@contextmanager
def process(
    arguments: Sequence[str | Path], *, name: str, as_nobody: bool = False, **options: Any
) -> Iterator[subprocess.Popen[Any]]:
    """A child process in a group of its own; ended (politely, then not) when the block ends, or this thread does.

    `as_nobody`: if this is root, as the user nobody.
    """
    who = ("--reuid=nobody", "--regid=nogroup", "--clear-groups") if as_nobody and os.geteuid() == 0 else ()
    line = [*_ends_with_us("KILL", *who), *map(str, arguments)]
    child = subprocess.Popen(line, start_new_session=True, **options)
    try:
        yield child
        status = child.poll()
        if status not in {None, 0}:
            raise RuntimeError(f"{name} ended with status {status}")
    finally:
        end(child)


def _ends_with_us(number: str, *more: str) -> list[str]:
    """What a command line begins with whose process gets a signal when the thread that started it ends, however."""
    return ["setpriv", "--pdeathsig", number, *more, "--"]


def end(child: subprocess.Popen[Any], *, how: int = signal.SIGTERM, bound_s: float = 30.0) -> None:
    """Stop a process and everything in its group."""
    for number in (how, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(child.pid, number)
        with suppress(subprocess.TimeoutExpired):
            child.wait(bound_s)
            return


def cpu_s(pid: int) -> float:
    """Processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Postgres:
    """A running server with one database `outrider`, owned by a login role without superuser rights."""

    home: Path
    pid: int

    @property
    def url(self) -> str:
        """The product's login role."""
        return f"postgresql://outrider@/outrider?host={self.home}"

    @property
    def superuser_url(self) -> str:
        """For CHECKPOINT, VACUUM and looking."""
        return f"postgresql://postgres@/outrider?host={self.home}"

    def settle(self) -> None:
        """CHECKPOINT and VACUUM ANALYZE, so that each run begins alike."""
        self.execute("VACUUM (ANALYZE)", "CHECKPOINT")

    def execute(self, *statements: str) -> None:
        """Run statements as superuser, each by itself."""

        async def work() -> None:
            connection = await asyncpg.connect(self.superuser_url)
            try:
                for statement in statements:
                    await connection.execute(statement, timeout=None)
            finally:
                await connection.close()

        run(work())

    def value(self, statement: str, *arguments: Any) -> Any:
        """The first column of the first row, as superuser."""

        async def work() -> Any:
            connection = await asyncpg.connect(self.superuser_url)
            try:
                return await connection.fetchval(statement, *arguments)
            finally:
                await connection.close()

        return run(work())


@contextmanager
def postgres(**more: str) -> Iterator[Postgres]:
    """A PostgreSQL of its own on the machine's disk, durable: fsync, full pages and synchronous commit are on."""
    home = Path(tempfile.mkdtemp(prefix="outrider-bench-", dir="/var/tmp"))
    account = account_for(home.stat(), home)
    if account.is_dropped_to:
        os.chown(home, account.uid, account.gid)
    home.chmod(0o755)
    found = programs.find(None, account).folder
    common: dict[str, Any] = {"cwd": "/", "stdin": subprocess.DEVNULL, **account.identity}
    try:
        subprocess.run(
            [
                found / "initdb",
                "-D",
                home / "data",
                "-U",
                "postgres",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--locale-provider=builtin",
                "--locale=C.UTF-8",
            ],
            check=True,
            stdout=subprocess.DEVNULL,
            **common,
        )
        settings = POSTGRES_SETTINGS | {"listen_addresses": "", "unix_socket_directories": str(home)} | more
        arguments = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with (home / "server.log").open("wb") as log:
            server = subprocess.Popen(
                [*_ends_with_us("INT"), found / "postgres", "-D", home / "data", *arguments],
                stdout=log,
                stderr=log,
                start_new_session=True,
                **common,
            )
        try:
            run(_until(lambda: _answers(home)))
            run(_make_database(home))
            yield Postgres(home, server.pid)
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(60)
    finally:
        shutil.rmtree(home, ignore_errors=True)


async def _answers(home: Path) -> bool:
    try:
        connection = await asyncpg.connect(f"postgresql://postgres@/postgres?host={home}")
    except (OSError, asyncpg.CannotConnectNowError):
        return False
    await connection.close()
    return True


async def _make_database(home: Path) -> None:
    connection = await asyncpg.connect(f"postgresql://postgres@/postgres?host={home}")
    try:
        await connection.execute("CREATE ROLE outrider LOGIN CREATEROLE CREATEDB")
        await connection.execute("CREATE DATABASE outrider OWNER outrider")
    finally:
        await connection.close()


async def _until(condition: Callable[[], Awaitable[bool]], bound_s: float = 60.0) -> None:
    async with asyncio.timeout(bound_s):
        while not await condition():  # noqa: ASYNC110 - other processes have no Event to wait for
            await asyncio.sleep(0.02)


@contextmanager
def redis(*, fsync: str = "everysec") -> Iterator[int]:
    """A Redis as BullMQ's manual wants it for production (append-only file, nothing evicted); gives its port."""
    need("redis-server")
    home = Path(tempfile.mkdtemp(prefix="outrider-bench-redis-", dir="/var/tmp"))
    port = free_port()
    arguments = [
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--dir",
        str(home),
        "--save",
        "",
        "--maxmemory-policy",
        "noeviction",
    ]
    arguments += ["--appendonly", "yes", "--appendfsync", fsync]
    try:
        with process(["redis-server", *arguments], name="redis-server", stdout=subprocess.DEVNULL):
            run(_until(lambda: _listens(port)))
            yield port
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def smtp_sink(*options: str) -> Iterator[int]:
    """Postfix's test server that throws mail away; gives its port."""
    need("smtp-sink")
    port = free_port()
    program = _which("smtp-sink") or "smtp-sink"
    arguments = [program, "-m", "5000", *options, f"127.0.0.1:{port}", "1000"]
    with process(arguments, name="smtp-sink", as_nobody=True):
        run(_until(lambda: _listens(port)))
        yield port


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


def smtp_source(port: int, *, messages: int, sessions: int, message_bytes: int = 4096) -> float:
    """The rate of Postfix's own load generator, which keeps its connections (`-d`), in messages a second."""
    need("smtp-source")
    program = _which("smtp-source") or "smtp-source"
    began_s = time.perf_counter()
    subprocess.run(
        [
            program,
            "-d",
            "-s",
            str(sessions),
            "-m",
            str(messages),
            "-l",
            str(message_bytes),
            "-f",
            "a@example.com",
            "-t",
            "b@example.com",
            f"127.0.0.1:{port}",
        ],
        check=True,
    )
    return messages / (time.perf_counter() - began_s)


def install_peer() -> None:
    """Install the Node peer from its lock file, once."""
    need("node", "npm")
    marker = PEER / "node_modules" / ".package-lock.json"
    if not marker.exists() or marker.stat().st_mtime < (PEER / "package-lock.json").stat().st_mtime:
        say("installing the peer's packages")
        # not `npm ci`, which insists on packages of other platforms that a mirror may not have; versions are the lock's
        quietly = ["--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
        subprocess.run(["npm", "install", "--no-save", *quietly], cwd=PEER, check=True)


@contextmanager
def node(script: str, settings: Mapping[str, Any]) -> Iterator[subprocess.Popen[str]]:
    """A Node process of the peer: settings as one JSON argument, JSON lines on its output."""
    arguments = ["node", str(PEER / script), json.dumps(settings)]
    environment = os.environ | {"NODE_ENV": "production"}
    with process(
        arguments, name=script, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=PEER
    ) as child:
        yield child


def answer(child: subprocess.Popen[str]) -> dict[str, Any]:
    """The next JSON line of a child."""
    assert child.stdout is not None
    line = child.stdout.readline()
    if not line:
        raise RuntimeError("the peer ended without an answer")
    found: dict[str, Any] = json.loads(line)
    return found
