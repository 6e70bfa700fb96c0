"""The nursery: the process from which the roles of a family are forked, so that what they load alike is there once.

Owns what is loaded before, the nursery process and the asking; knows nothing of what a role does, and holds nothing
that belongs to one: it is forked while its parent has one thread, no event loop, no setting and no secret. A role gets
a session, a stdin and a stdout of its own, as if it had been started by itself. The nursery ends when nobody can ask it
any more and the last it forked has ended. One that was killed is replaced at the next wish; its children live on.
"""

from __future__ import annotations

import asyncio
import atexit
import errno
import gc
import json
import os
import pkgutil
import select
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NoReturn

from outrider import plugins
from outrider.app import load_log_without_rich, main
from outrider.interfaces.cli import exits

_SHARED: Final = (
    "outrider.app.commands.worker",
    "outrider.engine.scheduling.run",
    "sqlalchemy.dialects.postgresql.asyncpg",
)
"""What at least two roles load. What one alone needs costs less where it is loaded by that one."""
_SHARED_PLUGINS: Final = ("channels", "gates", "providers")
_LONGEST_REQUEST_BYTES: Final = 65_536
_FDS_END: Final = 1 << 20
_ORPHAN_POLL_S: Final = 0.25


def this_python() -> list[str]:
    """The interpreter of this process, as isolated as it is, for a process of our own."""
    return [sys.executable, *(["-I"] if sys.flags.isolated else [])]


class Forked:
    """One process from the nursery. `returncode` is None while it runs, negative after a signal."""

    def __init__(self, pid: int, stdin: int, stdout: asyncio.StreamReader, report: asyncio.StreamReader) -> None:
        self.pid = pid
        self.stdout = stdout
        self.returncode: int | None = None
        self._stdin = stdin
        self._report = report
        self._ended = asyncio.create_task(self._wait(), name=f"end of {pid}")

    async def wait(self) -> int:
        """Its exit code, when it has ended; what an orphan of a killed nursery ended with nobody knows: a bug."""
        return await asyncio.shield(self._ended)

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def _wait(self) -> int:
        kind, number = await _said(self._report)
        while not kind and lives(self.pid):  # noqa: ASYNC110 - nobody tells of the end of another's child
            await asyncio.sleep(_ORPHAN_POLL_S)
        os.close(self._stdin)
        self.returncode = number if kind else exits.BUG
        return self.returncode


class Nursery:
    """The nursery as its parent sees it; made while the parent has one thread, no event loop and no secret."""

    def __init__(self) -> None:
        load()
        self._socket, theirs = _pair()
        self._pid = os.fork()
        if not self._pid:
            _tend(theirs)
        theirs.close()

    async def start(self, arguments: Sequence[str]) -> Forked:
        """Start `outrider` with these arguments; its stdin ends when this process does.

        Raises:  OSError when there is no room for one more process.
        """
        stdin, our_stdin = os.pipe()
        our_stdout, stdout = os.pipe()
        our_report, report = os.pipe()
        try:
            output, said = await _reader(our_stdout), await _reader(our_report)
            try:
                self._ask(arguments, [stdin, stdout, report])
            finally:
                for theirs in (stdin, stdout, report):
                    os.close(theirs)
            pid = await _pid_of(said)
        except BaseException:
            os.close(our_stdin)  # should it run all the same: this ends it
            raise
        return Forked(pid, our_stdin, output, said)

    def close(self) -> None:
        """Ask for nothing more and wait until it has ended, which it does after the last of its children. Blocks."""
        self._socket.close()
        os.waitpid(self._pid, 0)

    def _ask(self, arguments: Sequence[str], fds: list[int]) -> None:
        request = [json.dumps(list(arguments)).encode()]
        try:
            socket.send_fds(self._socket, request, fds)
        except (BrokenPipeError, ConnectionResetError):
            self._replace()
            socket.send_fds(self._socket, request, fds)

    def _replace(self) -> None:
        """Start another one as a program, since this process has threads and an event loop by now."""
        self.close()
        self._socket, theirs = _pair()
        with theirs:
            program = [*this_python(), "-m", __name__]
            as_stdin = [(os.POSIX_SPAWN_DUP2, theirs.fileno(), 0)]
            self._pid = os.posix_spawn(program[0], program, os.environ, file_actions=as_stdin)


def load() -> None:
    """Load what is shared and let the garbage collector leave it alone, so that its pages stay shared."""
    load_log_without_rich()
    gc.disable()
    for name in _SHARED:
        import_module(name)
    for kind in _SHARED_PLUGINS:
        home = import_module(f"{plugins.__name__}.{kind}")
        for module in pkgutil.iter_modules(home.__path__, f"{home.__name__}."):
            import_module(module.name)
    gc.freeze()
    gc.enable()


def _pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


async def _reader(fd: int) -> asyncio.StreamReader:
    """A stream from the reading end of a pipe, which is closed with it."""
    reader = asyncio.StreamReader()
    pipe = open(fd, "rb", buffering=0)  # noqa: ASYNC230, SIM115 - a descriptor that is open; the stream closes it
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    return reader


async def _said(report: asyncio.StreamReader) -> tuple[str, int]:
    """One line of what becomes of a process: `pid`, `error` (no process, why) or `ended` (exit code); "" at the end."""
    kind, _, number = (await report.readline()).decode().partition(" ")
    return kind, int(number or 0)


async def _pid_of(report: asyncio.StreamReader) -> int:
    kind, number = await _said(report)
    if kind != "pid":
        raise OSError(number if kind == "error" else errno.ECHILD, "the process could not be forked")
    return number


def lives(pid: int) -> bool:
    """Whether there is a process of this id, whoever's it is."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _tend(control: socket.socket) -> NoReturn:
    """Be the nursery: fork who is asked for, tell when one has ended, until nobody asks and the last has ended."""
    code = exits.BUG
    try:
        os.setsid()
        nowhere = os.open(os.devnull, os.O_RDWR)
        control = socket.socket(fileno=os.dup(control.detach()))
        os.dup2(nowhere, 0)
        os.dup2(nowhere, 1)
        os.closerange(3, control.fileno())
        os.closerange(control.fileno() + 1, _FDS_END)
        _call_itself("outrider nursery")
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)  # who stops a family tells everybody in it; children end first
        _serve(control)
        code = exits.OK
    finally:
        os._exit(code)


def _serve(control: socket.socket) -> None:
    bell, rope = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(rope)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    reports: dict[int, int] = {}
    listened: list[Any] = [control, bell]
    while control in listened or reports:
        heard, _, _ = select.select(listened, [], [])
        if control in heard and not _answer(control, reports):
            listened.remove(control)
        if bell in heard:
            os.read(bell, 512)
        _reap(reports)


def _answer(control: socket.socket, reports: dict[int, int]) -> bool:
    """Fork who is asked for. False when nobody can ask any more."""
    request, fds, _, _ = socket.recv_fds(control, _LONGEST_REQUEST_BYTES, 3)
    if not request:
        return False
    stdin, stdout, report = fds
    try:
        pid = os.fork()
    except OSError as error:
        _report(report, "error", error.errno or 0)
        os.close(report)
    else:
        if not pid:
            _become(json.loads(request), stdin, stdout, report)
        reports[pid] = report
    os.close(stdin)
    os.close(stdout)
    return True


def _reap(reports: dict[int, int]) -> None:
    """Tell who has ended, and how."""
    for pid in list(reports):
        ended, how = os.waitpid(pid, os.WNOHANG)
        if ended:
            report = reports.pop(pid)
            _report(report, "ended", os.waitstatus_to_exitcode(how))
            os.close(report)


def _report(report: int, kind: str, number: int) -> None:
    with suppress(BrokenPipeError):  # who asked is gone
        os.write(report, f"{kind} {number}\n".encode())


def _become(arguments: list[str], stdin: int, stdout: int, report: int) -> NoReturn:
    """Be one role, in a process of its own, from its first line to its exit code."""
    code = exits.BUG
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.setsid()
        os.dup2(stdin, 0)
        os.dup2(stdout, 1)
        sys.stdin = open(0, closefd=False, encoding="utf-8")  # noqa: SIM115 - as long as the process
        sys.stdout = open(1, "w", closefd=False, encoding="utf-8")  # noqa: SIM115 - the same
        sys.argv[1:] = arguments
        _call_itself(f"outrider {' '.join(arguments)}")
        _report(report, "pid", os.getpid())
        os.closerange(3, _FDS_END)
        code = main(arguments)
    except BaseException as error:  # noqa: BLE001 - nobody else could tell of it
        os.write(2, f"error: a process could not become itself: {error!r}\n".encode())
    finally:
        _end(code)


def _end(code: int) -> NoReturn:
    """End as a program does, without going back up the stack, which is another process's."""
    try:
        # what the role registered: log lines that wait are written
        atexit._run_exitfuncs()  # noqa: SLF001 - as multiprocessing does in what it forks
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                with suppress(OSError, ValueError):
                    stream.flush()
    finally:
        os._exit(code)


def _call_itself(title: str) -> None:
    """Have `ps` and `/proc/<pid>/cmdline` say what this process is, in the room that the command line has."""
    with suppress(OSError, ValueError):
        fields = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
        start, end = int(fields[45]), int(fields[46])  # arg_start and arg_end, proc_pid_stat(5)
        room = end - start
        with Path("/proc/self/mem").open("r+b", buffering=0) as memory:
            memory.seek(start)
            memory.write(title.encode()[: room - 1].ljust(room, b"\0"))


if __name__ == "__main__":
    load()
    _tend(socket.socket(fileno=0))
