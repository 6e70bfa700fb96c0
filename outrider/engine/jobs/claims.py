"""DBOS behind our port: the claim of runs with priorities and limits, the thread each has, its end in DBOS's tables.

The only module that imports DBOS. DBOS's own pollers are stopped once it is launched: it would poll every queue each
second with a thread of its own, while the pump (pump.py) is woken by a notification and asks only where something
waits. It runs no migrations (ours made its schema), calls nobody, and pickles nothing.
Source: docs/decisions/0016-jobs-on-dbos.md
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any, Final

import psycopg
import structlog
from dbos import DBOS, DBOSConfig, DBOSPortableJSONSerializer
from dbos._core import execute_dequeued_workflow
from dbos._queue import _INTERNAL_QUEUE_CONSTRUCTION, Queue
from dbos._utils import generate_uuid
from sqlalchemy.exc import DBAPIError

from outrider.data.db import Role

APPLICATION: Final = "outrider"
"""Name and version that runs are enqueued under and claimed by, whatever release: the types decide who can run what."""
SCHEMA: Final = "outrider_dbos"
WORKFLOW: Final = "run"
CONNECTIONS: Final = 3
MOST_THREADS: Final = 1024
"""More than any room asks for: a run never waits for a thread. Each is made when it is needed."""
_CONTENDED = (psycopg.errors.LockNotAvailable, psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected)
_log = structlog.get_logger(__name__)


class Claims:
    """One process's hold on DBOS, which is a singleton of the process: open one at a time.

    Takes:   url        PostgreSQL, without a pooler in between
             worker_id  what claimed runs are marked with
             execute    called with a run's id in a thread of its own; must not raise, returns when the run is over
             released   called, in that thread, when there is room for another
    """

    def __init__(
        self, url: str, *, worker_id: str, execute: Callable[[str], None], released: Callable[[], None]
    ) -> None:
        self._url = url
        self._worker_id = worker_id
        self._execute = execute
        self._released = released
        self._dbos: Any = None
        self._lock = threading.Lock()
        self._queue_of: dict[str, str] = {}

    def open(self) -> None:
        """Connect and register (blocks).

        Raises:  what psycopg and DBOS raise when the database is away or its schema is not that of this DBOS.
        """
        logger = logging.getLogger("dbos")
        if not logger.handlers:  # else DBOS adds a console handler of its own and leaves our log
            logger.addHandler(logging.NullHandler())
        logger.propagate = True
        logger.setLevel(logging.ERROR)  # what it tells of its own accord, our log tells better
        config = DBOSConfig(
            name=APPLICATION,
            system_database_url=self._url,
            dbos_system_schema=SCHEMA,
            application_version=APPLICATION,
            executor_id=self._worker_id,
            serializer=DBOSPortableJSONSerializer(),
            run_migrations=False,
            use_listen_notify=False,
            enable_otlp=False,
            log_level="ERROR",
            max_executor_threads=MOST_THREADS,
            notification_listener_polling_interval_sec=0.2,  # asks nothing of the database; how long its end takes
            db_engine_kwargs={
                "pool_size": CONNECTIONS,
                "max_overflow": 0,
                "pool_timeout": 30,
                "hide_parameters": True,
                "connect_args": {
                    "options": f"-c role={Role.JOBS} -c timezone=UTC -c statement_timeout=30000 -c jit=off "
                    "-c idle_in_transaction_session_timeout=60000",
                    "application_name": "outrider jobs",
                    "connect_timeout": 10,
                },
            },
        )
        DBOS.destroy(destroy_registry=True)
        self._dbos = DBOS(config=config)

        def run() -> None:
            run_id = str(DBOS.workflow_id)
            try:
                self._execute(run_id)
            finally:
                with self._lock:
                    self._queue_of.pop(run_id, None)
                self._released()

        DBOS.workflow(name=WORKFLOW, max_recovery_attempts=None)(run)
        self._dbos._background_jobs_stop_event.set()  # noqa: SLF001 - no delayed runs and no timeouts of its own
        DBOS.launch()
        for event in self._dbos.background_thread_stop_events:
            event.set()  # its pollers: the pump claims, our schedules fire, our reaper recovers

    def claim(self, queue: str, *, concurrency: int | None, room: int) -> int | None:
        """Claim up to `room` runs of a queue, the most urgent and oldest first, and start each in its thread (blocks).

        Takes:   concurrency  most runs of the queue over all processes; None: no limit
        Gives:   how many; None when another process claimed at the same instant: try again soon.
        """
        owner = generate_uuid()
        limits = Queue(queue, concurrency, worker_concurrency=room, token=_INTERNAL_QUEUE_CONSTRUCTION)
        system: Any = self._dbos._sys_db  # noqa: SLF001 - the claim as DBOS's own queue thread makes it
        try:
            ids, _reason = system.start_queued_workflows(
                limits, self._worker_id, APPLICATION, None, 0, owner_xid=owner, is_latest_version=True
            )
        except DBAPIError as error:
            if isinstance(error.orig, _CONTENDED):
                return None
            raise
        if not ids:
            return 0
        found = {status["workflow_uuid"]: status for status in system.get_workflow_statuses(ids)}
        for run_id in ids:
            if run_id in found:  # else withdrawn between the two statements
                with self._lock:
                    self._queue_of[run_id] = queue
                execute_dequeued_workflow(self._dbos, found[run_id], owner)
        return len(ids)

    def running(self, queue: str) -> int:
        """How many runs of a queue this process holds."""
        with self._lock:
            return sum(each == queue for each in self._queue_of.values())

    def held(self) -> list[str]:
        """The ids of the runs this process holds, begun or about to."""
        with self._lock:
            return list(self._queue_of)

    def close(self) -> None:
        """Let go of DBOS (blocks, at most some seconds); runs must be over."""
        if self._dbos is not None:
            self._dbos = None
            DBOS.destroy(destroy_registry=True)
