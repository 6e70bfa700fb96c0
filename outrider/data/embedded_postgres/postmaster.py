"""The postmaster as an operating-system process: recognised, started, told to stop, seen to be gone.

Owns the rule that one data directory has one server. The proof is server.lock: the postmaster and all it forks inherit
its open file, so nobody can hold it before the last of them has ended, in whatever container they run. A process id
read from a file is believed only when that process works in this very data directory as this very user.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from outrider.base.errors import Misconfigured, Unavailable
from outrider.data.embedded_postgres import launch as launch_program
from outrider.data.embedded_postgres.configuration import pinned
from outrider.data.embedded_postgres.faults import refuse
from outrider.data.embedded_postgres.home import Home
from outrider.data.embedded_postgres.locks import FileLock
from outrider.data.embedded_postgres.programs import Programs
from outrider.data.embedded_postgres.sockets import key_of, socket_path

STOP_BOUND_S = 60.0
"""Time for a fast shutdown (SIGINT) before an immediate one (SIGQUIT), which costs a recovery but no data."""
_QUIT_BOUND_S = 15.0
_ORPHANS_END_THEMSELVES_S = 5.0
ORPHANS_BOUND_S = 30.0
_LAUNCH_BOUND_S = 30
_LAST_LINES_BOUND_S = 10.0
_POLL_S = 0.02
_PID_FILE_LINES = 6


@dataclass(frozen=True, slots=True)
class Postmaster:
    """A live postmaster of one data directory, as its pid file describes it."""

    pid: int
    port: int
    socket_dir: Path


def find(home: Home) -> Postmaster | None:
    """The live postmaster of this data directory, or None."""
    lines = (home.read("cluster/postmaster.pid") or b"").decode(errors="replace").splitlines()
    # a file still being written at a start lacks its later lines; whoever starts holds start.lock
    if len(lines) < _PID_FILE_LINES or not lines[0].strip("-").isdigit() or not lines[3].isdigit():
        return None
    if not lines[4].startswith("/"):
        return None  # started by hand without a socket; found among the processes, and left alone
    pid = abs(int(lines[0]))
    return Postmaster(pid, int(lines[3]), Path(lines[4])) if is_server_process(pid, home) else None


def is_server_process(pid: int, home: Home) -> bool:
    """Whether a process is alive and is PostgreSQL's, of this data directory."""
    return _command_of(pid, home) is not None


def server_processes(home: Home) -> Iterator[int]:
    """Every live server process of this data directory that this process can see."""
    for entry in os.listdir("/proc"):  # noqa: PTH208 - names are what is wanted
        if entry.isdigit() and is_server_process(int(entry), home):
            yield int(entry)


def elsewhere(home: Home) -> list[int]:
    """Live postmasters of this data directory that its pid file does not name: they run in another container."""
    found = []
    for pid in server_processes(home):
        command = _command_of(pid, home)
        # children of a postmaster replace their command line by a title
        if command is not None and not command.startswith(b"postgres:"):
            found.append(pid)
    return sorted(found)


def find_or_claim(home: Home) -> Postmaster | FileLock:
    """Find the live postmaster, or prove that no server process is left and keep others from starting one.

    Gives:   the postmaster; or server.lock, held, to be handed to `start`. Backends orphaned by a killed postmaster end
             by themselves, or are told to after a few seconds (SIGQUIT: recovery follows anyway).
    Raises:  Unavailable naming the processes that will not end, or that are another container's.
    """
    lock = home.lock("server.lock")
    try:
        found = _found_or_free(home, lock, _ORPHANS_END_THEMSELVES_S)
        if found is None:
            refuse_elsewhere(home)
            for pid in server_processes(home):
                _send(pid, signal.SIGQUIT)
            found = _found_or_free(home, lock, ORPHANS_BOUND_S - _ORPHANS_END_THEMSELVES_S)
        if found is None:
            _refuse_orphans(home)
    except BaseException:
        lock.close()
        raise
    if isinstance(found, Postmaster):
        lock.close()
    return found


def refuse_elsewhere(home: Home) -> None:
    """Refuse to touch a server that another container runs on the same data.

    Raises:  Unavailable.
    """
    others = elsewhere(home)
    if others:
        raise Unavailable(
            "database_elsewhere",
            f"another container runs a server on {home.cluster} (processes {others} here): stop that one first",
            retry_after_s=10,
        )


def refuse_hidden_socket(live: Postmaster) -> None:
    """Refuse to stop a server whose socket is only invisible from here: in another mount namespace all is well.

    Raises:  Misconfigured when the server itself sees its socket, or when that cannot be found out.
    """
    seen_by_server = Path(f"/proc/{live.pid}/root") / socket_path(live.socket_dir, live.port).relative_to("/")
    try:
        seen_by_server.lstat()
    except FileNotFoundError:
        return
    except PermissionError:
        pass
    raise Misconfigured(
        "database_socket_hidden",
        f"the database (process {live.pid}) listens in {live.socket_dir}, which is not visible from here (systemd's "
        "PrivateTmp, a container): run this where it was started",
    )


def start(home: Home, programs: Programs, lock: FileLock) -> int:
    """Start the postmaster, detached from this process, holding `lock`; gives its pid.

    Takes:   the proof of `claim_data`. A pid file left by a dead server is removed: PostgreSQL would take any process
             that has that number now for the old server.
    Raises:  Misconfigured when the program cannot be executed.
    """
    (home.cluster / "postmaster.pid").unlink(missing_ok=True)
    account = home.account
    who = (account.uid, account.gid) if account.is_dropped_to else (-1, -1)
    server = [programs.folder / "postgres", "-D", home.cluster, "-c", f"config_file={home.path / 'postgresql.conf'}"]
    read_end, report = os.pipe()
    try:
        arguments = [*map(str, (*who, report, home.path / "start.log", home.cluster)), *map(str, server), *pinned()]
        subprocess.run(
            [sys.executable, "-I", "-S", launch_program.__file__, *arguments],
            pass_fds=(report, lock.fd),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
            timeout=_LAUNCH_BOUND_S,
        )
    finally:
        os.close(report)
        with os.fdopen(read_end, encoding="utf-8", errors="replace") as file:
            pid, _, problem = file.read().partition("\n")
    if problem or not pid:
        raise Misconfigured("database_programs", f"the database cannot be started: {problem.strip() or 'no launcher'}")
    return int(pid)


def log_sizes(home: Home) -> dict[str, int]:
    """How long each log file is now, so that only what comes later is read."""
    return {path.name: path.lstat().st_size for path in home.log_dir.iterdir()} if home.log_dir.is_dir() else {}


def refuse_failed_start(home: Home, pid: int, sizes_before: dict[str, int]) -> NoReturn:
    """Raise for a server that ended while it was starting, by what it has logged since.

    Its log collector writes on when the postmaster has ended, and the last line is the one that tells: waits for it.
    """
    _wait(lambda: _is_gone(home, pid), _LAST_LINES_BOUND_S)
    logs = [(home.read("start.log") or b"").decode(errors="replace")]
    for name, size in log_sizes(home).items():
        if size > sizes_before.get(name, 0):
            content = home.read(f"log/{name}", most_bytes=size) or b""
            logs.append(content[sizes_before.get(name, 0) :].decode(errors="replace"))
    telling = [text for text in logs if "FATAL" in text or "PANIC" in text]
    refuse(f"the database in {home.path} does not start", (telling or logs)[-1])


def stop(home: Home, postmaster: Postmaster, *, bound_s: float = STOP_BOUND_S) -> None:
    """Stop the server: SIGINT, which ends sessions and writes a checkpoint; after `bound_s` SIGQUIT.

    Gives:   no process of it left. Whoever calls holds start.lock.
    Raises:  Unavailable when it outlives even that.
    """
    for number, patience_s in ((signal.SIGINT, bound_s), (signal.SIGQUIT, _QUIT_BOUND_S)):
        _send(postmaster.pid, number)
        if _wait(lambda: _is_gone(home, postmaster.pid), patience_s):
            return
    raise Unavailable(
        "database_stopping",
        f"the database's process {postmaster.pid} does not end; look at {home.log_dir}, then: kill -9 {postmaster.pid}",
        retry_after_s=10,
    )


def _is_gone(home: Home, pid: int) -> bool:
    if is_server_process(pid, home):
        return False
    lock = home.lock("server.lock")
    try:
        return lock.take()
    finally:
        lock.close()


def _found_or_free(home: Home, lock: FileLock, bound_s: float) -> Postmaster | FileLock | None:
    """Wait for a live postmaster (one just started has no pid file yet) or for the last process to be gone."""
    give_up_at = time.monotonic() + bound_s
    while True:
        live = find(home)
        if live is not None:
            return live
        # a server that somebody started by hand does not hold our lock, but counts
        if lock.take() and next(server_processes(home), None) is None:
            return lock
        if time.monotonic() >= give_up_at:
            return None
        time.sleep(_POLL_S)


def _refuse_orphans(home: Home) -> NoReturn:
    left = sorted(server_processes(home))
    who = f"end them with: kill -9 {' '.join(map(str, left))}" if left else "they are not of this machine or container"
    raise Unavailable(
        "database_orphans",
        f"processes of an earlier server still use {home.cluster}; a second server would destroy it; {who}",
        retry_after_s=10,
    )


def _command_of(pid: int, home: Home) -> bytes | None:
    """The command line or title of a live server process of this data directory, or None when it is none."""
    process = Path("/proc") / str(pid)
    try:
        state = (process / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0]
        if state in {"Z", "X"} or process.stat().st_uid != home.account.uid:
            return None
        command = (process / "cmdline").read_bytes()
        program = os.fsdecode(command.split(b"\0", 1)[0])
        if Path(program).name != "postgres" and not program.startswith("postgres:"):
            return None
        is_ours = os.path.samestat((process / "cwd").stat(), home.cluster.stat())
    except (FileNotFoundError, ProcessLookupError):
        return None
    except PermissionError:
        # root without CAP_SYS_PTRACE (most containers) may not look; the command line or title names the cluster
        is_ours = os.fsencode(home.cluster) in command.split(b"\0") or f"outrider-{key_of(home)}".encode() in command
    return command if is_ours else None


def _wait(condition: Callable[[], bool], bound_s: float) -> bool:
    give_up_at = time.monotonic() + bound_s
    while not condition():
        if time.monotonic() >= give_up_at:
            return False
        time.sleep(_POLL_S)
    return True


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
