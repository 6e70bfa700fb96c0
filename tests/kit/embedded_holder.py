"""A process that holds an embedded database until its standard input closes, to be started several times and killed.

    python tests/kit/embedded_holder.py DATA_DIR [name=value …]

Prints one JSON line (pid, is_owner, url, socket_dir) once it holds the server. Options: `leave_pid_1=yes` goes on in a
child when it is process 1; `keep=yes` keeps the server; every other name is a setting of PostgreSQL's.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from outrider.base.errors import OutriderError
from outrider.data.embedded_postgres import ensure, leave_pid_1


def main(data_dir: str, *options: str) -> int:
    """Hold it; gives the exit code."""
    given = dict(option.split("=", 1) for option in options)
    if given.pop("leave_pid_1", ""):
        leave_pid_1()
    keep = bool(given.pop("keep", ""))
    try:
        server = ensure(Path(data_dir), settings=given)
        facts = {
            "pid": server.pid,
            "is_owner": server.is_owner,
            "url": server.url,
            "socket_dir": str(server.socket_dir),
        }
        sys.stdout.write(json.dumps(facts) + "\n")
        sys.stdout.flush()
        sys.stdin.read()
        server.release(keep=keep)
    except OutriderError as error:
        sys.stderr.write(f"{error.code}: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
