"""Process 1 of a container is init, not a program: it must reap every orphan and pass signals on.

Owns going on in a child while process 1 does only that. PostgreSQL is never process 1, and never started by one that
would leave its dead children unreaped.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from types import FrameType

from outrider.base.errors import Misconfigured

_PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
_REST_BOUND_S = 25.0
_POLL_S = 0.05


def refuse_pid_1() -> None:
    """Refuse to supervise a database from process 1.

    Raises:  Misconfigured with the ways out.
    """
    if os.getpid() == 1:
        raise Misconfigured(
            "database_pid_1",
            "process 1 of a container must not run the embedded database: start the container with an init "
            "(docker run --init, `init: true` in Compose, shareProcessNamespace in Kubernetes)",
        )


def leave_pid_1() -> None:
    """Go on in a child when this is process 1, and stay behind as init; does nothing in any other process.

    To be called first thing in the entry point, before threads and event loops. Signals go to the child; every orphan
    is reaped; when the child ends, what is left (a kept database) is told to stop by SIGINT and waited for, because the
    kernel kills it otherwise; then process 1 ends with the child's exit code.
    """
    if os.getpid() != 1:
        return
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        os._exit(_be_init(child))


def _be_init(child: int) -> int:
    """Reap until the child has ended, then let the rest end; gives the exit code, 128 + n for a signal."""

    def pass_on(number: int, _frame: FrameType | None) -> None:
        try:
            os.kill(child, number)
        except ProcessLookupError:
            return

    for number in _PASSED_ON:
        signal.signal(number, pass_on)
    while True:
        ended, how = os.wait()
        if ended == child:
            break
    for number in _PASSED_ON:
        signal.signal(number, signal.SIG_IGN)
    with suppress(ProcessLookupError):
        os.kill(-1, signal.SIGINT)
    _reap_the_rest()
    code = os.waitstatus_to_exitcode(how)
    return code if code >= 0 else 128 - code


def _reap_the_rest() -> None:
    give_up_at = time.monotonic() + _REST_BOUND_S
    while time.monotonic() < give_up_at:
        try:
            ended, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not ended:
            time.sleep(_POLL_S)
