"""The nursery: the process from which the roles of a family are forked, so that what they load alike is there once.

Owns what is loaded before, the nursery process and the asking; knows nothing of what a role does, and holds nothing
that belongs to one: it is forked while its parent has one thread, no event loop, no setting and no secret. A role gets
a session, a stdin and a stdout of its own, as if it had been started by itself. It is an orphan from the beginning, for
its parent to adopt (`orphans`), who hears how it ended; where that cannot be, it says so itself.

Who loads leaves the nursery to a child at the first wish and ends: a fork takes over what was loaded, but not the pages
of the programs' files that only loading needed. The nursery ends when nobody asks it any more; the roles live on, and
pages that all of them have written to meanwhile are not kept once more for it. The next wish starts another.
"""

from __future__ import annotations

import asyncio
import atexit
import errno
import gc
import os
import pkgutil
import re
import select
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Final, NoReturn

from outrider import plugins
from outrider.app import load_log_without_rich, orphans, role
from outrider.interfaces.cli import exits

KILLED: Final = -signal.SIGKILL
"""The exit code of a process that could not say how it ended, where it could not be adopted either."""
_SHARED: Final = (
    "outrider.app.commands.worker",
    "outrider.engine.scheduling.run",
    "click",  # the web server's and the jobs', like the next
    "yaml",
    "sqlalchemy.dialects.postgresql.asyncpg",
)
"""What at least two roles load. What one alone needs costs less where it is loaded by that one."""
_SHARED_PLUGINS: Final = ("channels", "gates", "jobs", "providers")
_SAID: Final = re.compile(rb"(?P<kind>pid|error|ended): (?P<number>-?[0-9]+)\n")
_LONGEST_NAME_BYTES: Final = 256
_FDS_END: Final = 1 << 20


def this_python() -> list[str]:
    """The interpreter of this process, as isolated as it is, for a process of our own."""
    return [sys.executable, *(["-I"] if sys.flags.isolated else [])]


class Forked:
    """One process from the nursery. `returncode` is None while it runs, -n when signal n ended it."""

    def __init__(self, pid: int, stdin: int, stdout: asyncio.StreamReader, heard: Callable[[bytes], None]) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._stdin = stdin
        self._ended = asyncio.create_task(self._listen(stdout, heard), name=f"end of {pid}")

    async def wait(self) -> int:
        """Its exit code, when it has ended."""
        return await asyncio.shield(self._ended)

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def _listen(self, stdout: asyncio.StreamReader, heard: Callable[[bytes], None]) -> int:
        """Hear it until its stdout ends, which it does with the process; until it is buried, nobody has its id."""
        code: int = KILLED
        try:
            while line := await _line(stdout):
                kind, number = _said(line)
                if kind == "ended":
                    code = number
                else:
                    heard(line)
        finally:
            os.close(self._stdin)
        how = await orphans.ending(self.pid)
        self.returncode = code if how is None else how
        return self.returncode


class Nursery:
    """The nursery as its parent sees it; made while the parent has one thread, no event loop and no secret."""

    def __init__(self) -> None:
        self._loader: int | None = None
        self._forked: list[Forked] = []
        self._socket, theirs = _pair()
        self._loader = os.fork()
        if not self._loader:
            _load_and_leave(theirs)
        theirs.close()

    async def start(self, name: str, heard: Callable[[bytes], None]) -> Forked:
        """Start a role; its stdin ends when this process does.

        Takes:   heard  called with each line of its stdout
        Raises:  OSError when there is no room for one more process.
        """
        try:
            return await self._start(name, heard)
        except ChildProcessError:  # it died with the wish; another one takes its place
            return await self._start(name, heard)

    async def _start(self, name: str, heard: Callable[[bytes], None]) -> Forked:
        with ExitStack() as ours, ExitStack() as theirs:
            stdin, our_stdin = os.pipe()
            theirs.callback(os.close, stdin)
            ours.callback(os.close, our_stdin)  # should it run although it was not heard of: this ends it
            our_stdout, stdout = os.pipe()
            theirs.callback(os.close, stdout)
            output = await _reader(our_stdout)
            self._ask(name, [stdin, stdout])
            theirs.close()
            pid = _pid_in(await output.readline())
            ours.pop_all()
        self._bury_loader()  # it has left: who answered is its child's
        forked = Forked(pid, our_stdin, output, heard)
        self._forked = [*(each for each in self._forked if each.returncode is None), forked]
        return forked

    def bury(self) -> None:
        """Bury who was adopted and has ended: a nursery of before, processes of a role that was killed."""
        orphans.bury(lambda pid: pid in {self._loader, *(each.pid for each in self._forked if each.returncode is None)})

    def rest(self) -> None:
        """Let it end until there is another wish; its children live on. Idempotent."""
        self._socket.close()
        if self._loader is not None:
            os.kill(self._loader, signal.SIGKILL)  # nobody needs what it loads
        self._bury_loader()

    close = rest

    def _bury_loader(self) -> None:
        if self._loader is not None:
            with suppress(ChildProcessError):  # the system buries by itself where SIGCHLD is ignored
                os.waitpid(self._loader, 0)
            self._loader = None

    def _ask(self, name: str, fds: list[int]) -> None:
        request = [name.encode()]
        try:
            socket.send_fds(self._socket, request, fds)
        except OSError:  # it rests, or it was killed
            self._replace()
            socket.send_fds(self._socket, request, fds)

    def _replace(self) -> None:
        """Start another one as a program, since this process has threads and an event loop by now."""
        self.rest()
        self._socket, theirs = _pair()
        with theirs:
            program = [*this_python(), "-m", __name__]
            as_stdin = [(os.POSIX_SPAWN_DUP2, theirs.fileno(), 0)]
            self._loader = os.posix_spawn(program[0], program, os.environ, file_actions=as_stdin)


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
    import_module("sqlalchemy.orm").configure_mappers()  # else each role does at its first statement
    gc.freeze()
    gc.enable()


def lives(pid: int) -> bool:
    """Whether there is a process of this id, whoever's it is."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _pair() -> tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


async def _reader(fd: int) -> asyncio.StreamReader:
    """A stream from the reading end of a pipe, which is closed with it."""
    reader = asyncio.StreamReader()
    pipe = open(fd, "rb", buffering=0)  # noqa: ASYNC230, SIM115 - a descriptor that is open; the stream closes it
    try:
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    except BaseException:
        pipe.close()
        raise
    return reader


async def _line(stdout: asyncio.StreamReader) -> bytes:
    """The next line; what is too long to be one of ours is left out."""
    while True:
        with suppress(ValueError):
            return await stdout.readline()


def _say(stdout: int, kind: str, number: int) -> None:
    """Say on the stdout of a role what becomes of it: `pid`, `error` (no process, why) or `ended` (exit code)."""
    with suppress(OSError):  # who asked is gone
        os.write(stdout, f"{kind}: {number}\n".encode())


def _said(line: bytes) -> tuple[str, int]:
    """What a line says, if it was said by `_say`; else ("", 0)."""
    said = _SAID.fullmatch(line)
    return (said["kind"].decode(), int(said["number"])) if said else ("", 0)


def _pid_in(line: bytes) -> int:
    kind, number = _said(line)
    if kind != "pid":
        raise OSError(number if kind == "error" else errno.ECHILD, "the process could not be forked")
    return number


def _load_and_leave(control: socket.socket) -> NoReturn:
    """Load what is shared, leave the nursery to a child at the first wish, and end."""
    code = exits.BUG
    try:
        control = _alone(control)
        load()
        select.select([control], [], [])  # who asks adopts by then
        if not os.fork():
            _serve(control)
        code = exits.OK
    except BaseException as error:  # noqa: BLE001 - nobody else could tell of it
        os.write(2, f"error: what the processes share cannot be loaded: {error!r}\n".encode())
    finally:
        os._exit(code)


def _alone(control: socket.socket) -> socket.socket:
    """Let go of everything of the parent's but the error output, and of whom it is stopped with."""
    os.setsid()
    nowhere = os.open(os.devnull, os.O_RDWR)
    control = socket.socket(fileno=os.dup(control.detach()))
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    os.closerange(3, control.fileno())
    os.closerange(control.fileno() + 1, _FDS_END)
    _call_itself("outrider nursery")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # who stops a family tells everybody in it
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    return control


def _serve(control: socket.socket) -> None:
    """Be the nursery: fork who is asked for, until nobody asks any more."""
    while True:
        request, fds, _, _ = socket.recv_fds(control, _LONGEST_NAME_BYTES, 2)
        if not request:
            return
        stdin, stdout = fds
        try:
            orphans.fork(partial(_become, request.decode(), stdin, stdout))
        except OSError as error:
            _say(stdout, "error", error.errno or 0)
        os.close(stdin)
        os.close(stdout)


def _become(name: str, stdin: int, stdout: int) -> NoReturn:
    """Be one role, in a process of its own, from its first line to its exit code."""
    code = exits.BUG
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.setsid()
        os.dup2(stdin, 0)
        os.dup2(stdout, 1)
        os.closerange(3, _FDS_END)
        sys.stdin = open(0, closefd=False, encoding="utf-8")  # noqa: SIM115 - as long as the process
        sys.stdout = open(1, "w", closefd=False, encoding="utf-8", errors="backslashreplace")  # noqa: SIM115 - the same
        _call_itself(role.title(name))
        _say(1, "pid", os.getpid())
        code = role.run(name)
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
        _say(1, "ended", code)
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
    _load_and_leave(socket.socket(fileno=0))
