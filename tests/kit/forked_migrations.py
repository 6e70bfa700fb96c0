"""A process of its own that migrates a database in forked children, each with a failpoint armed.

Run as `python -m tests.kit.forked_migrations URL LOG`: reads a failpoint per line on stdin, forks a child that
migrates with it armed, and answers with the child's exit code (negative: the signal that ended it). Forking saves
importing all anew for hundreds of kills; each child is a process with connections of its own.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import sys

from outrider.base import failpoint
from outrider.base.errors import OutriderError
from outrider.data import migrate


def _migrate(url: str, armed: str, log: str) -> int:
    os.environ["OR_FAILPOINT"], os.environ["OR_FAILPOINT_LOG"] = armed, log
    importlib.reload(failpoint)
    try:
        asyncio.run(migrate.upgrade(url))
    except OutriderError as error:
        sys.stderr.write(f"{error.code}: {error}\n")
        return 1
    return 0


def main(url: str, log: str) -> None:
    """Answer each line until stdin ends."""
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            os._exit(_migrate(url, line.strip(), log))
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
