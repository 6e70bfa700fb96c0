"""Lease renewal by a thread of its own: a server may take minutes to answer the final dot, an event loop may be busy.

Owns one connection and one event loop in its thread; renews only what is still open and old enough.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from contextlib import suppress

import asyncpg
import structlog

from outrider.base.clock import boottime_s
from outrider.base.errors import OutriderError
from outrider.data.db import Database
from outrider.data.faults import TRANSIENT
from outrider.domain.messages.rows import SQL
from outrider.engine.dispatch.batch import LEASE_OVER, Batch
from outrider.engine.loop import pause

_log = structlog.get_logger(__name__)
_PASSING: tuple[type[BaseException], ...] = (OutriderError, *TRANSIENT)


class Renewer:
    """Keeps the leases of open batches alive until it is stopped."""

    def __init__(self, database: Database, batches: Mapping[int, Batch], *, lease_s: float) -> None:
        self._database = database
        self._batches = batches
        self._lease_s = lease_s
        self._stop = threading.Event()
        self._stop_heard = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._main, name="lease-renewal", daemon=True)
        self.beat_s = boottime_s()

    def start(self) -> None:
        """Begin renewing."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; waits for it shortly."""
        self._stop.set()
        if self._loop is not None:
            with suppress(RuntimeError):  # its loop is closed: it has ended already
                self._loop.call_soon_threadsafe(self._stop_heard.set)
        self._thread.join(timeout=5)

    def _main(self) -> None:
        asyncio.run(self._run())

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        connection: asyncpg.Connection | None = None
        every_s = max(self._lease_s / 6, 0.05)
        while not self._stop.is_set():
            old = self._old()
            if old:
                try:
                    if connection is None or connection.is_closed():
                        connection = await self._database.connect()
                    for batch in old:
                        await self._renew(connection, batch)
                except _PASSING as error:
                    _log.warning("renewal_waits", batches=len(old), error=type(error).__name__)
                    if connection is not None:
                        connection.terminate()
                        connection = None
            self.beat_s = boottime_s()
            await pause(self._stop_heard, every_s)
        if connection is not None:
            await connection.close()

    def _old(self) -> list[Batch]:
        """Batches with a third of their lease used up."""
        now_s = boottime_s()
        return [
            batch
            for batch in list(self._batches.values())
            if batch.unrecorded and batch.lease_until_s - now_s < self._lease_s * 2 / 3
        ]

    async def _renew(self, connection: asyncpg.Connection, batch: Batch) -> None:
        """Extend what is still ours; the new end counts from before the statement was sent.

        What was swept meanwhile, or is in somebody's hands at this moment, is withdrawn first, as the longer lease does
        not hold for it. What has its outcome is in the hands of our own recorder.
        """
        before_s = boottime_s()
        ids = list(batch.messages)
        rows = await SQL.renew.many(connection, batch.lane.tenant_id, ids, self._lease_s, [batch.token] * len(ids))
        ours = {row["id"] for row in rows}
        lost = [message_id for message_id in ids if message_id not in ours and message_id in batch.unsettled]
        for message_id in lost:
            batch.withdrawn[message_id] = LEASE_OVER
        if lost:
            _log.warning("lease_lost", token=batch.token, messages=len(lost))
        if ours:
            batch.lease_until_s = before_s + self._lease_s
