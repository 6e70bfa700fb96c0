"""Openings and clicks on their way into the database: collected in memory for a moment, stored in one transaction.

Owns what is not stored yet, within bounds: alike ones are one entry with a count; beyond the bound new ones are dropped
and counted, because whoever clicked was answered already. What cannot be stored is kept and tried again in ever smaller
batches; what fails alone, too, is given up and counted. What a killed process loses is `tracking_flush_s` at most.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from itertools import islice
from typing import NamedTuple
from uuid import UUID

import structlog
from prometheus_client import CollectorRegistry, Counter

from outrider.base.errors import Misconfigured, Unavailable
from outrider.data.db import Role
from outrider.data.runtime import Runtime
from outrider.domain.tracking import inbox

_log = structlog.get_logger(__name__)
_MOST_ENTRIES = 50_000
_ROWS = 2_000
_LONGEST_PAUSE_S = 5.0
_LAST_WITHIN_S = 5.0
_TRIES_ALONE = 3
"""So often an entry fails by itself, for no cause that passes, before it is given up."""
_WORDS = {1: "open", 2: "click"}


class Key(NamedTuple):
    """What makes two hits alike."""

    tenant_id: UUID
    message_id: UUID
    kind: int
    link: int
    machine: str


class Buffer:
    """The hits of one process that are not stored yet."""

    def __init__(self, runtime: Runtime, registry: CollectorRegistry) -> None:
        self._db = runtime.db
        counted = Counter(
            "outrider_tracking_hits",
            "Openings and clicks taken in, by kind and by whom; dropped because too many waited, lost because they "
            "could not be stored.",
            ["app", "kind", "result"],
            registry=registry,
        )
        self._counts = {
            (kind, result): counted.labels(runtime.settings.app_label, word, result)
            for kind, word in _WORDS.items()
            for result in ("person", "machine", "dropped", "lost")
        }
        failures = Counter(
            "outrider_tracking_failures",
            "Times that openings and clicks could not be stored: the database was away, or an error; they are kept.",
            ["app", "cause"],
            registry=registry,
        )
        self._failures = {cause: failures.labels(runtime.settings.app_label, cause) for cause in ("away", "error")}
        self._every_s = runtime.settings.tracking_flush_s
        self._entries: dict[Key, list[float]] = {}
        """Moment of the first one (monotonic seconds), and how many."""
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._at_once = _ROWS
        self._alone_count = 0
        self.dropped_count = 0

    @property
    def waiting_count(self) -> int:
        """Entries not stored yet."""
        return len(self._entries)

    def add(self, key: Key) -> None:
        """Take a hit; never waits."""
        entry = self._entries.get(key)
        if entry is not None:
            entry[1] += 1
        elif len(self._entries) < _MOST_ENTRIES:
            self._entries[key] = [time.monotonic(), 1]
        else:
            self.dropped_count += 1
            self._counts[key.kind, "dropped"].inc()
            return
        self._counts[key.kind, "machine" if key.machine else "person"].inc()

    def start(self) -> None:
        """Store from now on."""
        self._task = asyncio.create_task(self._run(), name="tracking buffer")

    async def close(self) -> None:
        """Store what is left, within five seconds."""
        self._stop.set()
        if self._task is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._task, _LAST_WITHIN_S)
        if self._entries:
            _log.warning("tracking_lost", count=len(self._entries))
            for key in self._entries:
                self._counts[key.kind, "lost"].inc(self._entries[key][1])

    async def _run(self) -> None:
        pause_s = self._every_s
        while self._entries or not self._stop.is_set():
            if not self._stop.is_set():
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), pause_s)
            try:
                await self.flush()
                pause_s = self._every_s
            except (Misconfigured, Unavailable) as error:  # a password that was changed is put right, too
                self._failures["away"].inc()
                pause_s = min(max(pause_s * 2, 0.2), _LONGEST_PAUSE_S)
                _log.warning("tracking_waits", waiting=len(self._entries), code=error.code)
                await asyncio.sleep(pause_s)
            except Exception:  # noqa: BLE001 - the last resort of the buffer: one bad batch must not end the recording
                self._failures["error"].inc()
                _log.exception("tracking_failed", waiting=len(self._entries), at_once=self._at_once)
                if self._narrow():
                    pause_s = min(max(pause_s * 2, 0.2), _LONGEST_PAUSE_S)
                    await asyncio.sleep(pause_s)

    def _narrow(self) -> bool:
        """Take less at once after a batch that failed, down to the entry that does. Gives whether to wait before."""
        if self._at_once > 1:
            self._at_once = max(1, min(self._at_once, len(self._entries)) // 2)
            return False
        self._alone_count += 1
        if self._alone_count >= _TRIES_ALONE:
            self._alone_count = 0
            key = next(iter(self._entries))
            self._lose(key)
            _log.error("tracking_given_up", message=str(key.message_id), kind=_WORDS[key.kind])
        return True

    def _lose(self, key: Key) -> None:
        _, count = self._entries.pop(key)
        self._counts[key.kind, "lost"].inc(count)

    async def flush(self) -> None:
        """Store all entries, the oldest first; they stay when the database does not take them.

        Raises:  Unavailable, and whatever a batch fails by.
        """
        while self._entries:
            taken = dict(islice(self._entries.items(), self._at_once))
            counts = {key: int(entry[1]) for key, entry in taken.items()}
            now_s = time.monotonic()
            hits = [inbox.Taken(*key, age_s=now_s - first_s, n=counts[key]) for key, (first_s, _) in taken.items()]
            async with self._db.uow(Role.ENGINE) as uow:
                await inbox.take_in(uow, hits)
            for key, count in counts.items():
                if self._entries[key][1] <= count:
                    del self._entries[key]
                else:  # more of the same came meanwhile
                    self._entries[key][1] -= count
            self._at_once, self._alone_count = min(_ROWS, 2 * self._at_once), 0
