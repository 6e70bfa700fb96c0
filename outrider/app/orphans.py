"""Orphans below this process: it adopts them, so that it hears how they ended and no dead one stays.

Owns the making of orphans, the wish to adopt them (`PR_SET_CHILD_SUBREAPER` of Linux) and the burying. Where the system
does not know that, whoever is process 1 adopts them as ever, and nobody here hears how one ended.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NoReturn

_PR_SET_CHILD_SUBREAPER: Final = 36
_POLL_S: Final = 0.01


@contextmanager
def adopted(*, wish: bool = True) -> Iterator[None]:
    """Adopt whoever becomes an orphan in the time of the block; or, within such a block, nobody for a while."""
    _adopt(wish=wish)
    try:
        yield
    finally:
        _adopt(wish=not wish)


def fork(live: Callable[[], NoReturn]) -> None:
    """Fork a process whose parent, one between, has ended when it begins. Only from a process with one thread.

    Raises:  OSError when there is no room for one more process.
    """
    gate, opens = os.pipe()
    try:
        between = os.fork()
        if not between:
            _leave(live, gate, opens)
        _, how = os.waitpid(between, 0)
    finally:  # which opens the gate, too
        os.close(gate)
        os.close(opens)
    number = os.waitstatus_to_exitcode(how)
    if number:
        raise OSError(number if number > 0 else errno.ECHILD, "the process could not be forked")


async def ending(pid: int) -> int | None:
    """Wait until one has ended; gives its exit code, as of `subprocess`, or None when it was not adopted."""
    while True:
        try:
            code = _code(pid)
        except ChildProcessError:
            return None
        if code is not None:
            return code
        await asyncio.sleep(_POLL_S)


def bury(is_awaited: Callable[[int], bool]) -> None:
    """Bury the dead that nobody waits for. Only while no other thread starts a program: it waits for that itself."""
    while True:
        try:
            dead = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if dead is None or is_awaited(dead.si_pid):  # behind whom there may be more: at the next look
            return
        os.waitpid(dead.si_pid, 0)


def _code(pid: int) -> int | None:
    ended, how = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(how) if ended else None


def _leave(live: Callable[[], NoReturn], gate: int, opens: int) -> NoReturn:
    """Be the one between: fork it and end, with the number of the error if there is one."""
    number = errno.ECHILD
    try:
        if not os.fork():
            os.close(opens)
            os.read(gate, 1)  # ends when nobody is left who could open it
            live()
        number = 0
    except OSError as error:
        number = error.errno or number
    finally:
        os._exit(number)


def _adopt(*, wish: bool) -> None:
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_CHILD_SUBREAPER, *map(ctypes.c_ulong, (wish, 0, 0, 0)))
