"""A program of its own: become the unprivileged account and the postmaster, in a session of its own.

Run as `python -I -S launch.py uid gid report_fd log folder program argument…`, server.lock open and locked. It forks
and ends, so that the postmaster is nobody's child but init's: the death of who started it does not touch it, and no
zombie is left to a starter that never waits. uid -1 keeps the caller's. Imports nothing of Outrider.
"""

import os
import signal
import sys


def main(uid: int, gid: int, report: int, log: str, folder: str, command: list[str]) -> None:
    """Report the postmaster's pid on `report`, then, when it could not be executed, why."""
    os.set_inheritable(report, False)  # noqa: FBT003 - the system call's own form
    pid = os.fork()
    if pid:
        os.write(report, f"{pid}\n".encode())
        return
    try:
        _become(uid, gid, log)
        os.chdir(folder)  # from its first instant the postmaster is recognised by where it works
        os.execve(command[0], command, {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"})  # noqa: S606 - an argv list
    except OSError as error:
        os.write(report, f"{error.strerror}: {error.filename or command[0]}\n".encode())
        os._exit(1)


def _become(uid: int, gid: int, log: str) -> None:
    """Leave behind what the starter's terminal, signal settings and privileges were."""
    os.setsid()
    if uid >= 0:
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    os.umask(0o077)
    for name in ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGPIPE", "SIGXFSZ"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    nothing = os.open(os.devnull, os.O_RDONLY)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    os.dup2(nothing, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5], sys.argv[6:])
