"""What the whole installation looks like now, read at most once a second: for health, metrics and queue statistics.

Owns the memory of the last reading, so that scraping costs the database nothing more than one reading a second.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime

import structlog

from outrider.base.clock import utc_now
from outrider.base.errors import OutriderError
from outrider.data import revision
from outrider.data.db import Role
from outrider.data.runtime import Runtime
from outrider.domain.limits import maintenance, switches
from outrider.domain.messages import workers
from outrider.domain.messages.fills import Fill, installation
from outrider.domain.messages.stats import queue_stats
from outrider.domain.messages.workers import Seen
from outrider.domain.senders.circuits import OpenCircuit, open_ones

_log = structlog.get_logger(__name__)
_KEPT_S = 1.0
_SCHEMA_KEPT_S = 30.0
_PATIENCE_S = 2.0
ALIVE_S = 15.0
"""A process that has been silent for longer counts as gone."""


@dataclass(frozen=True, slots=True)
class QueueRow:
    """Open messages of a channel in a state, and how long the oldest has been due (0 when it is not yet)."""

    channel: str
    state: str
    depth: int
    oldest_at: datetime | None
    oldest_age_s: float


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One reading. Everything but `is_up` is empty when the database did not answer."""

    is_up: bool
    took_ms: float = 0.0
    queue: tuple[QueueRow, ...] = ()
    workers: tuple[Seen, ...] = ()
    switches: tuple[switches.Switch, ...] = ()
    circuits: tuple[OpenCircuit, ...] = ()
    is_in_maintenance: bool = False
    quota: Fill | None = None
    read_at: datetime = field(default_factory=utc_now)

    def alive(self) -> list[Seen]:
        """Processes that have been heard of lately."""
        return [worker for worker in self.workers if worker.silent_s < ALIVE_S and worker.state != "stopped"]


class Snapshots:
    """Readings of one process, shared by whoever asks at the same time."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._lock = asyncio.Lock()
        self._last = Snapshot(is_up=False)
        self._read_s = float("-inf")
        self._schema = ""
        self._schema_read_s = float("-inf")

    async def now(self) -> Snapshot:
        """The last reading, at most a second old. Never raises for a database that is away."""
        if time.monotonic() - self._read_s < _KEPT_S:
            return self._last
        async with self._lock:
            if time.monotonic() - self._read_s >= _KEPT_S:
                self._last = await self._read()
                self._read_s = time.monotonic()
        return self._last

    async def schema(self) -> str:
        """`current`, `pending`, `newer` or `unknown`: how the database's schema stands to this release's."""
        async with self._lock:
            if time.monotonic() - self._schema_read_s >= _SCHEMA_KEPT_S:
                self._schema = await self._read_schema()
                self._schema_read_s = time.monotonic() if self._schema != "unknown" else float("-inf")
        return self._schema

    async def _read(self) -> Snapshot:
        begun_s = time.monotonic()
        try:
            async with asyncio.timeout(_PATIENCE_S), self._runtime.db.uow(Role.ENGINE) as uow:
                rows = await queue_stats(uow.raw)
                seen = await workers.listed(uow.raw)
                paused = await switches.listed(uow)
                unreached = await open_ones(uow.raw)
                state = await maintenance.read(uow)
                quota = await installation(uow.raw)
        except (OutriderError, TimeoutError) as error:
            _log.warning("snapshot_failed", error=type(error).__name__)
            return Snapshot(is_up=False)
        now = datetime.now(UTC)
        queue = tuple(
            QueueRow(
                row.channel,
                row.state,
                row.depth,
                row.oldest_at,
                max(0.0, (now - row.oldest_at).total_seconds()) if row.oldest_at else 0.0,
            )
            for row in rows
        )
        took_ms = (time.monotonic() - begun_s) * 1000
        return Snapshot(
            is_up=True,
            took_ms=took_ms,
            queue=queue,
            workers=tuple(seen),
            switches=tuple(paused),
            circuits=tuple(unreached),
            is_in_maintenance=state.is_on,
            quota=quota.fill,
        )

    async def _read_schema(self) -> str:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                found = await revision.status(self._runtime.database_url)
        except (OutriderError, TimeoutError):
            return "unknown"
        if found.is_newer:
            return "newer"
        return "pending" if found.pending else "current"
