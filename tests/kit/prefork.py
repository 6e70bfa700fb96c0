"""Command lines that are forked from a process which has loaded the product: what a test pays for is the command.

Loading the program's files takes a second of a busy machine, the command mostly a tenth of it. A forked command has
its own process, environment, folder and streams, and waits for its threads and runs what is to run at its end; only its
start is short, and the memory of what was loaded is not torn down.

API
    takes(line, environment) -> bool       whether it can be forked: nothing that works while files are loaded
    run(line, environment, …) -> Ended     run it to its end
    start(line, environment, …) -> Forked  start one that stays; `.pid`, `.poll()`, `.wait()`, … as of a Popen

A line is what follows `python`: `-m outrider worker …`, or with a seeded defect `-m tests.kit.defects NAME -m outrider
worker …`.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import import_module, reload
from pathlib import Path
from typing import IO, Any, NoReturn

_LONGEST_BYTES = 100_000
"""Of a wish; a longer one is not for a datagram."""
_STREAMS = 3
_LOADED = ("outrider.interfaces.cli.commands", "outrider.app.start", "outrider.app.wiring", "outrider.app.commands")
_PRODUCT = ["-m", "outrider"]
_DEFECTS = ["-m", "tests.kit.defects"]
_BY_ITSELF = ("demo", "up", "--version")
"""What has more to do than a command: it starts others, or comes before all that is loaded."""
_ITS_OWN = ("OUTRIDER_", "OR_FAILPOINT", "PYTEST_")
"""How the variables begin that may differ from the server's: nothing was loaded differently because of them."""


@dataclass(frozen=True, slots=True)
class Ended:
    """What a command left."""

    code: int
    out: bytes
    err: bytes


@dataclass(frozen=True, slots=True)
class _Server:
    """The process that forks, the socket it is asked on, and the environment it was started in."""

    process: subprocess.Popen[bytes]
    socket: socket.socket
    environment: Mapping[str, str]


class Forked:
    """A process that was forked. `returncode` is None while nobody has heard that it ended, -n when signal n did it."""

    def __init__(self, line: Sequence[str], stdin: int, status: int) -> None:
        self.args = list(line)
        self.returncode: int | Any = None
        self.stdin: IO[str] | None = os.fdopen(stdin, "w", encoding="utf-8", errors="surrogateescape")
        self._status = os.fdopen(status, "rb")
        self.pid = int(self._status.readline() or 0)
        assert self.pid, f"what forks processes has ended: {_server().process.communicate()}"

    def poll(self) -> int | None:
        """Its exit code, if it has ended."""
        if self.returncode is None and select.select([self._status], [], [], 0)[0]:
            self._hear()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, when it has ended. Raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self._hear()
        return int(self.returncode)

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _hear(self) -> None:
        self.returncode = int(self._status.readline())
        self._status.close()


def takes(line: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Whether a command line can be forked: it starts no others, and its environment is not Python's own business."""
    product = list(line[3:] if list(line[:2]) == _DEFECTS else line)
    if product[:2] != _PRODUCT or len(product) == len(_PRODUCT) or product[2] in _BY_ITSELF:
        return False
    return len(_wish(line, environment, Path("/"))) <= _LONGEST_BYTES and _others(environment) == _server().environment


def start(line: Sequence[str], environment: Mapping[str, str], *, cwd: Path, stdout: int, stderr: int) -> Forked:
    """Start a process; its stdin is a pipe."""
    theirs_in, ours_in = os.pipe()
    status, theirs_status = os.pipe()
    _ask(line, environment, cwd, [theirs_in, stdout, stderr, theirs_status])
    for number in (theirs_in, theirs_status):
        os.close(number)
    return Forked(line, ours_in, status)


def run(line: Sequence[str], environment: Mapping[str, str], *, stdin: str, cwd: Path, timeout_s: float) -> Ended:
    """Run a command line to its end. Raises subprocess.TimeoutExpired when it took too long; it is killed then."""
    (ours_out, theirs_out), (ours_err, theirs_err) = os.pipe(), os.pipe()
    process = start(line, environment, cwd=cwd, stdout=theirs_out, stderr=theirs_err)
    for number in (theirs_out, theirs_err):
        os.close(number)
    assert process.stdin is not None
    with ThreadPoolExecutor(_STREAMS) as threads:
        written = threads.submit(_write, process.stdin, stdin)
        out, err = threads.submit(_read, ours_out), threads.submit(_read, ours_err)
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        written.result()
        return Ended(code, out.result(), err.result())


def _ask(line: Sequence[str], environment: Mapping[str, str], cwd: Path, given: Sequence[int]) -> None:
    socket.send_fds(_server().socket, [_wish(line, environment, cwd)], given)


def _wish(line: Sequence[str], environment: Mapping[str, str], cwd: Path) -> bytes:
    return json.dumps({"line": list(line), "environment": dict(environment), "cwd": str(cwd)}).encode()


def _others(environment: Mapping[str, str]) -> dict[str, str]:
    """What is not read by the command alone, after it was loaded."""
    return {name: value for name, value in environment.items() if not name.startswith(_ITS_OWN)}


def _read(number: int) -> bytes:
    with os.fdopen(number, "rb") as pipe:
        return pipe.read()


def _write(pipe: IO[str], text: str) -> None:
    with suppress(BrokenPipeError), pipe:
        pipe.write(text)


@cache
def _server() -> _Server:
    """The server of this process; it ends with it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    environment = _others(os.environ)
    with theirs:
        process = subprocess.Popen(
            # streams of which Python knows from the beginning that they cannot be sought, as those of commands
            [sys.executable, "-m", __name__],
            env=environment,
            stdin=theirs.fileno(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    atexit.register(_end, process, ours)
    return _Server(process, ours, environment)


def _end(process: subprocess.Popen[bytes], asking: socket.socket) -> None:
    asking.close()
    process.communicate()


def serve(asked: socket.socket) -> list[str] | None:
    """Fork a process for each wish, and say how each ends.

    Gives:   in a forked process the line it is to run; in the server None, when nobody asks any more.
    """
    poll = select.poll()
    poll.register(asked, select.POLLIN)
    running: dict[int, tuple[int, int]] = {}
    while True:
        for number, _ in poll.poll():
            if number in running:
                poll.unregister(number)
                pid, status = running.pop(number)
                _say(status, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
                os.close(status)
                os.close(number)
                continue
            message, given, _, _ = socket.recv_fds(asked, 2 * _LONGEST_BYTES, _STREAMS + 1)
            if not message:
                return None
            wish, status = json.loads(message), given[_STREAMS]
            if (pid := os.fork()) == 0:
                asked.detach()
                for each, (_, other) in running.items():
                    os.close(each)
                    os.close(other)
                _become(wish["environment"], wish["cwd"], given)
                return list(wish["line"])
            for stream in given[:_STREAMS]:
                os.close(stream)
            _say(status, pid)
            pidfd = os.pidfd_open(pid)
            running[pidfd] = (pid, status)
            poll.register(pidfd, select.POLLIN)


def _say(status: int, number: int) -> None:
    with suppress(BrokenPipeError):
        os.write(status, b"%d\n" % number)


def _become(environment: Mapping[str, str], cwd: str, given: Sequence[int]) -> None:
    """Be the process of a command: its streams (0 takes the place of the server's socket), environment and folder."""
    for stream, number in enumerate(given[:_STREAMS]):
        os.dup2(number, stream)
    for number in given:
        os.close(number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    reload(import_module("outrider.base.failpoint"))


def _leave(code: int) -> NoReturn:
    """End as Python does, but let the system take the memory back: tearing all that was loaded down copies it first."""
    threading._shutdown()  # type: ignore[attr-defined]  # there is no other way to have these two run without the rest
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


def load() -> None:
    """Load what commands use, and let the garbage collector leave it alone."""
    import_module("outrider.app.nursery").load()
    for name in _LOADED:
        module = import_module(name)
        for found in pkgutil.iter_modules(getattr(module, "__path__", ()), f"{name}."):
            import_module(found.name)
    import_module("outrider.interfaces.api.application").routes()
    gc.collect()
    gc.freeze()


if __name__ == "__main__":
    load()
    line = serve(socket.socket(fileno=0))
    if line is not None:
        from outrider.app import main

        if line[:2] == _DEFECTS:
            import_module(_DEFECTS[1]).DEFECTS[line[2]].patch()
            del line[:3]
        _leave(main(line[2:]))
