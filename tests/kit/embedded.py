"""Throw-away data directories and holder processes for the tests of the embedded database.

Owns starting and ending them: whatever a test kills or leaves, nothing of it survives the test.
"""

from __future__ import annotations

import json
import os
import pwd
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outrider.data.embedded_postgres import stop
from outrider.data.embedded_postgres.account import Identity
from outrider.data.embedded_postgres.home import existing
from outrider.data.embedded_postgres.postmaster import server_processes
from outrider.data.embedded_postgres.sockets import RUN, TEMPORARY, key_of, remove_socket_dirs
from tests.kit.postgres import open_folder, run_lock
from tests.kit.processes import BOUND_S

ROOT = Path(__file__).resolve().parent.parent.parent
IS_ROOT = os.geteuid() == 0


def hiding(*folders: str, scratch: Path, is_read_only: bool = False) -> str:
    """A shell command that puts empty folders over these, in a mount namespace of its own.

    The repository stays visible, wherever it was cloned to; `scratch` must not be below any of them.
    """
    kept, names = shlex.quote(str(scratch / "kept")), " ".join(folders)
    root = shlex.quote(str(ROOT))
    close = f"; for d in {names}; do mount -o remount,ro $d; done" if is_read_only else ""
    return (
        f"mkdir {kept} && mount --bind {root} {kept}; for d in {names}; do mount -t tmpfs -o mode=1777 tmpfs $d; done; "
        f"[ -e {root} ] || {{ mkdir -p {root} && mount --bind {kept} {root}; }}{close}"
    )


def ordinary_user() -> Identity:
    """Who an ordinary user is: nobody when the tests run as root, else whoever runs them."""
    if not IS_ROOT:
        return {}
    entry = pwd.getpwnam("nobody")
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


@contextmanager
def data_folder(parent: Path | None = None) -> Iterator[Path]:
    """A folder every account may pass, for data directories below it; their servers are ended with it."""
    folder = open_folder(parent)
    lock = run_lock(folder)
    try:
        yield folder
    finally:
        for start_lock in folder.rglob("start.lock"):
            end_server(start_lock.parent)
        shutil.rmtree(folder)
        lock.close()


def end_server(data_dir: Path) -> None:
    """End every process of a data directory, also those a test has stopped or orphaned, and remove its sockets."""
    home = existing(data_dir)
    if home is None or not home.cluster.exists():
        return
    for pid in server_processes(home):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    stop(data_dir)
    for pid in server_processes(home):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for parent in (RUN / "outrider", *TEMPORARY):
        for socket in parent.glob(f"*{key_of(home)}*/.s.PGSQL.*"):
            socket.unlink(missing_ok=True)
    remove_socket_dirs(home)


@dataclass(slots=True)
class Holder:
    """A process of `embedded_holder.py`."""

    process: subprocess.Popen[str]

    def facts(self) -> dict[str, Any]:
        """What it printed when it held the server; fails with its complaint when it ended instead."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.complaint()
        facts: dict[str, Any] = json.loads(line)
        return facts

    def complaint(self) -> str:
        """What it wrote to standard error until it ended."""
        return self.process.communicate(timeout=BOUND_S)[1]

    def release(self) -> int:
        """Have it release the server and end; gives its exit code."""
        self.process.communicate(timeout=BOUND_S)
        return self.process.returncode

    def kill(self) -> int:
        """Kill -9, nothing else; gives the exit code Python reports."""
        self.process.kill()
        return self.process.wait(BOUND_S)


@contextmanager
def holder(
    data_dir: Path, *options: str, prefix: tuple[str, ...] = (), env: dict[str, str] | None = None, **who: Any
) -> Iterator[Holder]:
    """Start a holder, as another user or below another program when asked to."""
    process = subprocess.Popen(
        [*prefix, sys.executable, "-W", "error", str(ROOT / "tests/kit/embedded_holder.py"), str(data_dir), *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd="/",
        env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", **(env or {})},
        **who,
    )
    try:
        yield Holder(process)
    finally:
        process.kill()
        process.communicate(timeout=BOUND_S)
