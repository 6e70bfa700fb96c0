"""The embedded server as its users see it: make sure that it runs, share it, and be the last to leave.

Owns the protocol between processes. start.lock: one process at a time starts, stops or attaches. holders.lock: shared
by everybody who uses the server; who can have it alone is the last and stops the server. Both are gone with their
process, so a kill -9 of an owner leaves the server running and the next `ensure` attaches to it. Never a second server
on the same data (postmaster.py).
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal, Self
from urllib.parse import quote

from outrider.base.errors import Misconfigured, Unavailable
from outrider.data.embedded_postgres import cluster, configuration, postmaster, programs, sockets
from outrider.data.embedded_postgres.cluster import LOGIN, SUPERUSER, Passwords
from outrider.data.embedded_postgres.faults import plain_errors
from outrider.data.embedded_postgres.health import ask
from outrider.data.embedded_postgres.home import LOCK_BOUND_S, Home, existing, prepare
from outrider.data.embedded_postgres.locks import FileLock
from outrider.data.embedded_postgres.pid_1 import refuse_pid_1
from outrider.data.embedded_postgres.postmaster import STOP_BOUND_S, Postmaster

START_BOUND_S = 60.0
"""Time for a start, recovery after a crash included, before the caller is told to try again."""
_STATUS_BOUND_S = 3.0
_POLL_S = 0.03

State = Literal["absent", "stopped", "healthy", "unhealthy", "orphaned"]


@dataclass(slots=True)
class Server:
    """A live embedded server and this process's hold on it; also a context manager that releases the hold."""

    data_dir: Path
    pid: int
    major: int
    version: str
    socket_dir: Path
    port: int
    is_owner: bool
    """This hold's `ensure` started the server; attached otherwise."""
    _home: Home = field(repr=False)
    _passwords: Passwords = field(repr=False)
    _holder: FileLock | None = field(repr=False)
    _held_by_pid: int = field(repr=False, default_factory=os.getpid)

    @property
    def url(self) -> str:
        """The login role `outrider`, owner of the database `outrider`; holds its password."""
        return _url(LOGIN, self._passwords.login, LOGIN, self.socket_dir, self.port)

    @property
    def superuser_url(self) -> str:
        """The superuser, for dumps and repairs; the product itself never uses it."""
        return _url(SUPERUSER, self._passwords.superuser, LOGIN, self.socket_dir, self.port)

    @property
    def log_dir(self) -> Path:
        """The server's own log, one file per weekday."""
        return self._home.log_dir

    def is_running(self) -> bool:
        """Whether the process of this server still lives; cheap, and no proof of health (`is_healthy` is)."""
        return postmaster.is_server_process(self.pid, self._home)

    def release(self, *, keep: bool = False) -> None:
        """Give this hold up; the last holder stops the server, unless told to keep it. Idempotent.

        Raises:  Unavailable when the server does not end; the hold is given up all the same.
        """
        holder, self._holder = self._holder, None
        if holder is None:
            return
        try:
            # in a forked child the hold is the parent's: closing our copy leaves it
            if not keep and os.getpid() == self._held_by_pid:
                with plain_errors("the database cannot be stopped"), self._home.starting():
                    if holder.take():
                        _stop(self._home)
        finally:
            holder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


@dataclass(frozen=True, slots=True)
class Status:
    """What is known of an embedded database without touching it."""

    state: State
    """absent: never made · stopped · healthy: signed in and answered · unhealthy: runs and does not answer · orphaned:
    the postmaster is gone, processes of it are left."""
    pid: int | None = None
    version: str | None = None
    socket_dir: Path | None = None
    problem: str | None = None


def ensure(
    data_dir: Path,
    *,
    bin_dir: Path | None = None,
    settings: Mapping[str, str] | None = None,
    tcp_port: int | None = None,
    start_bound_s: float = START_BOUND_S,
) -> Server:
    """Give a live, healthy server on this data directory: made, recovered, started or attached to, as needed.

    Takes:   data_dir   a folder of its own, e.g. <OUTRIDER_DATA_DIR>/postgresql; made 0700
             bin_dir    folder of server programs (OUTRIDER_POSTGRES_BIN); None: the wheel's, else the system's
             settings   PostgreSQL settings beyond ours; they count when this call starts the server
             tcp_port   also listen on 127.0.0.1, for tools; sockets only otherwise
    Gives:   a hold on the server: `release()` it, or use it as a context manager. Blocks; from asynchronous code call
             it through `asyncio.to_thread`.
    Raises:  Misconfigured, nothing was started: wrong owner, unreachable folder, another major, unsafe settings, no
             programs, process 1 · Unavailable, safe to repeat: still recovering, orphans of a killed server, no room.
    """
    refuse_pid_1()
    configuration.refuse_settings(settings or {})
    if tcp_port is not None and not 1024 <= tcp_port <= 65535:  # noqa: PLR2004 - the range of unprivileged ports
        raise Misconfigured("database_setting", "must be a port from 1024 to 65535", field="tcp_port")
    with plain_errors(f"the database in {data_dir} cannot be used"):
        home = prepare(data_dir)
        with home.starting():
            holder = _hold(home)
            try:
                found = _find(home, start_bound_s)
                if isinstance(found, Postmaster):
                    return _server(home, found, holder, is_owner=False)
                live = _start(home, found, bin_dir, settings or {}, tcp_port, start_bound_s)
                return _server(home, live, holder, is_owner=True)
            except BaseException:
                holder.close()
                if postmaster.find(home) is None:
                    sockets.remove_socket_dirs(home)
                raise


def stop(data_dir: Path, *, bound_s: float = STOP_BOUND_S) -> bool:
    """Stop the server of a data directory, whoever holds it; its holders lose their connections.

    Gives:   whether there was one to stop; afterwards no process of it is left.
    Raises:  Unavailable when it does not end, Misconfigured when the folder is somebody else's.
    """
    with plain_errors(f"the database in {data_dir} cannot be stopped"):
        home = existing(data_dir)
        if home is None or not home.cluster.exists():
            return False
        with home.starting():
            return _stop(home, bound_s)


def status(data_dir: Path) -> Status:
    """Look at a data directory without changing anything; healthy means a real connection was made.

    Raises:  Misconfigured when this user may not look.
    """
    with plain_errors(f"the database in {data_dir} cannot be looked at"):
        home = existing(data_dir)
        if home is None or not home.cluster.exists():
            return Status("absent")
        version = (home.read("version") or b"").decode(errors="replace").strip() or None
        live = postmaster.find(home)
        if live is None:
            others = postmaster.elsewhere(home)
            if others:
                return Status("unhealthy", others[0], version, problem="another container runs a server on this data")
            left = sorted(postmaster.server_processes(home))
            if left:
                return Status("orphaned", left[0], version, problem=f"processes {left} of a killed server are left")
            return Status("stopped", version=version)
        try:
            _ask(home, live, _STATUS_BOUND_S)
        except (Unavailable, Misconfigured) as error:
            return Status("unhealthy", live.pid, version, live.socket_dir, error.message)
        return Status("healthy", live.pid, version, live.socket_dir)


def _hold(home: Home) -> FileLock:
    """Become one of those who use the server; start.lock is held, so nobody has this one alone."""
    holder = home.lock("holders.lock")
    if not holder.share(LOCK_BOUND_S):
        holder.close()
        raise Unavailable("database_starting", f"{home.path / 'holders.lock'} is locked by a program of somebody else")
    return holder


def _find(home: Home, bound_s: float) -> Postmaster | FileLock:
    """The live server, healthy; else server.lock, held: there is none, or nobody could reach it and it was stopped."""
    found = postmaster.find_or_claim(home)
    while isinstance(found, Postmaster):
        if not sockets.socket_path(found.socket_dir, found.port).exists():
            # its folder was swept away (a logout ends $XDG_RUNTIME_DIR): it runs and nobody can connect to it any more
            postmaster.refuse_hidden_socket(found)
            postmaster.stop(home, found)
        else:
            try:
                _wait_until_healthy(home, found.pid, found, bound_s)
            except Unavailable:
                if postmaster.is_server_process(found.pid, home):
                    raise
                # it was killed, and on its way out when it was found
            else:
                return found
        found = postmaster.find_or_claim(home)
    return found


def _start(
    home: Home,
    lock: FileLock,
    bin_dir: Path | None,
    settings: Mapping[str, str],
    tcp_port: int | None,
    bound_s: float,
) -> Postmaster:
    """Make the cluster when it is absent, and start its server; start.lock and server.lock are held."""
    try:
        chosen = programs.find(bin_dir, home.account)
        home.sweep()
        socket_dir = sockets.make_socket_dir(home, tcp_port or sockets.DEFAULT_PORT)
        cluster.refuse_other_major(home, chosen, socket_dir)
        if cluster.made_by(home) is None:
            cluster.make(home, chosen, wal_ahead_bytes=configuration.wal_ahead_bytes(home, settings))
        _known(home)
        configuration.write(home, chosen, settings, socket_dir, tcp_port)
        configuration.refuse_unsafe_files(home, chosen)
        cluster.record_version(home, chosen)
        sizes = postmaster.log_sizes(home)
        pid = postmaster.start(home, chosen, lock)
    finally:
        lock.close()  # the server has its own copy of the open file
    live = Postmaster(pid, tcp_port or sockets.DEFAULT_PORT, socket_dir)
    try:
        _wait_until_healthy(home, pid, live, bound_s)
    except Unavailable:
        if postmaster.is_server_process(pid, home):
            raise  # still recovering: it goes on by itself, and the next caller attaches
        postmaster.refuse_failed_start(home, pid, sizes)
    except BaseException:
        # Misconfigured, or Ctrl-C: nobody holds it
        postmaster.stop(home, live)
        raise
    return live


def _wait_until_healthy(home: Home, pid: int, live: Postmaster, bound_s: float) -> None:
    """Ask until it answers.

    Raises:  Unavailable when it ended, or did not answer within the bound; Misconfigured when it never will.
    """
    give_up_at = time.monotonic() + bound_s
    while True:
        try:
            _ask(home, live, max(1.0, give_up_at - time.monotonic()))
        except Unavailable as error:
            if not postmaster.is_server_process(pid, home):
                raise
            if time.monotonic() >= give_up_at:
                raise Unavailable(
                    "database_not_ready",
                    f"the database in {home.path} (process {pid}) did not answer within {bound_s:g} s and is left to "
                    f"recover ({error.message}); its log is in {home.log_dir}",
                    retry_after_s=10,
                ) from None
            time.sleep(_POLL_S)
        else:
            return


def _ask(home: Home, live: Postmaster, bound_s: float) -> None:
    ask(_url(LOGIN, _known(home).login, LOGIN, live.socket_dir, live.port), bound_s=bound_s)


def _stop(home: Home, bound_s: float = STOP_BOUND_S) -> bool:
    live = postmaster.find(home)
    if live is None:
        postmaster.refuse_elsewhere(home)
        return False
    postmaster.stop(home, live, bound_s=bound_s)
    sockets.remove_socket_dirs(home, live.socket_dir)
    return True


def _server(home: Home, live: Postmaster, holder: FileLock, *, is_owner: bool) -> Server:
    version = (home.read("version") or b"").decode(errors="replace").strip()
    return Server(
        data_dir=home.path,
        pid=live.pid,
        major=cluster.made_by(home) or 0,
        version=version,
        socket_dir=live.socket_dir,
        port=live.port,
        is_owner=is_owner,
        _home=home,
        _passwords=_known(home),
        _holder=holder,
    )


def _known(home: Home) -> Passwords:
    known = cluster.passwords(home)
    if known is None:
        raise Misconfigured(
            "database_password",
            f"{home.path / 'pgpass'} with the embedded database's passwords is missing or damaged: restore it",
            field="OUTRIDER_DATA_DIR",
        )
    return known


def _url(role: str, password: str, database: str, socket_dir: Path, port: int) -> str:
    where = f"host={quote(str(socket_dir), safe='/')}"
    if port != sockets.DEFAULT_PORT:
        where += f"&port={port}"
    return f"postgresql://{role}:{quote(password, safe='')}@/{database}?{where}"
