"""A PostgreSQL of a drill's own, to be stopped and crashed; the shared one of the run serves everybody else.

with Cluster.open(wal_writer_delay="10s") as cluster:
    cluster.url                     a migrated database; the same URL after every start
    cluster.folder, .said()         where its files are; its logs
    cluster.stop()                  as `pg_ctl stop -m fast`: sessions are ended, a checkpoint is written
    cluster.crash()                 as `pg_ctl stop -m immediate`: recovery follows at the next start
    cluster.start()
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from outrider.data import migrate
from outrider.data.embedded_postgres import Server, ensure
from outrider.data.embedded_postgres.home import existing
from tests.kit.embedded import data_folder
from tests.kit.postgres import run_apart
from tests.kit.processes import BOUND_S, wait_until


class Cluster:
    """The server of one data directory."""

    def __init__(self, folder: Path, settings: dict[str, str]) -> None:
        self._folder = folder
        self._settings = settings
        self._server: Server
        self.start()

    @classmethod
    @contextmanager
    def open(cls, **settings: str) -> Iterator[Cluster]:
        """Make it, with settings of PostgreSQL's, and migrate its database; nothing is left of it afterwards."""
        with data_folder() as folder:
            cluster = cls(folder / "pg", {"max_connections": "100", "min_wal_size": "128MB", **settings})
            try:
                run_apart(_migrated(cluster.url))
                yield cluster
            finally:
                cluster._server.release(keep=True)

    @property
    def folder(self) -> Path:
        """The server's own files: what `pg_relation_filepath` is relative to."""
        home = existing(self._folder)
        assert home is not None
        return home.cluster

    def said(self) -> str:
        """What the server wrote into its logs."""
        return "".join(path.read_text(errors="replace") for path in self._server.log_dir.iterdir())

    @property
    def url(self) -> str:
        """The login role's own database."""
        return self._server.url

    def start(self) -> None:
        """Start it again; recovers when it was crashed."""
        self._server = ensure(self._folder, settings=self._settings)

    def stop(self) -> None:
        """Fast: what is under way is rolled back."""
        self._end(signal.SIGINT)

    def crash(self) -> None:
        """Immediate: nothing is written any more that was not on its way."""
        self._end(signal.SIGQUIT)

    def _end(self, number: signal.Signals) -> None:
        os.kill(self._server.pid, number)
        wait_until(lambda: not self._server.is_running(), what="the end of the database", bound_s=BOUND_S)
        self._server.release(keep=True)


async def _migrated(url: str) -> None:
    await migrate.upgrade(url)
