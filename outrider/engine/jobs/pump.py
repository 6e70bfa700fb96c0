"""The pump: makes due jobs ready and claims as many runs as there is room for, when woken and once a second.

Owns when DBOS is asked and for how much; the claim itself is in claims.py.
"""

from __future__ import annotations

import asyncio
import random
from concurrent.futures import ThreadPoolExecutor

from outrider.base.clock import boottime_s
from outrider.data.db import Role
from outrider.data.runtime import Runtime
from outrider.domain.jobs import running
from outrider.domain.jobs.running import Ready
from outrider.engine.jobs.claims import Claims

_MOST_AT_ONCE = 100
_PROMOTED_AT_ONCE = 1000
_PROMOTE_S = 0.5
"""Not with every wish for more: time passes evenly."""
_CONTENDED_S = 0.05


class Pump:
    """Claims for one process."""

    def __init__(self, runtime: Runtime, claims: Claims) -> None:
        self._runtime = runtime
        self._claims = claims
        self._preset = runtime.settings.queue_concurrency
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="job-claims")
        self._promoted_at = 0.0
        self.is_open = True
        self.is_claiming = False
        """Whether its thread waits for the database: it outlives a round that was cut."""

    async def round(self) -> bool:
        """Promote, then claim for each queue that has something and room; whether to come again at once."""
        if not self.is_open:
            return False
        promoted = 0
        if boottime_s() - self._promoted_at >= _PROMOTE_S:
            self._promoted_at = boottime_s()
            async with self._runtime.db.uow(Role.ENGINE) as uow:
                promoted = await running.promote(uow, _PROMOTED_AT_ONCE)
        async with self._runtime.db.uow(Role.ENGINE) as uow:
            ready = await running.ready_queues(uow)
        random.shuffle(ready)  # no queue goes first for ever
        claims = [await self._claim(queue) for queue in ready]
        if None in claims:
            await asyncio.sleep(_CONTENDED_S * random.uniform(0.2, 1.0))  # noqa: S311 - jitter between processes
        return None in claims or _MOST_AT_ONCE in claims or promoted >= _PROMOTED_AT_ONCE

    async def _claim(self, queue: Ready) -> int | None:
        room = (queue.worker_concurrency or self._preset) - self._claims.running(queue.name)
        if room <= 0 or not self.is_open:
            return 0

        def claim() -> int | None:
            self.is_claiming = True
            try:
                return self._claims.claim(queue.name, concurrency=queue.concurrency, room=min(room, _MOST_AT_ONCE))
            finally:
                self.is_claiming = False

        return await asyncio.get_running_loop().run_in_executor(self._thread, claim)

    def close(self) -> None:
        """Claim no more."""
        self.is_open = False
        self._thread.shutdown(wait=False, cancel_futures=True)
