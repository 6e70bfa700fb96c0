"""How many messages reached each state, counted from the rollups: for metrics.

Owns the memory of past hours, so that a scrape reads the last two hours only; the ledger is never read.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta

import structlog

from outrider.base.clock import utc_now
from outrider.base.errors import OutriderError
from outrider.data.db import Database, Role
from outrider.domain.messages import stats
from outrider.domain.messages.stats import Totals

_log = structlog.get_logger(__name__)
_KEPT_S = 5.0
_PATIENCE_S = 2.0
_PAST_PATIENCE_S = 20.0


class MessageTotals:
    """Totals of one process's scrapes. What retention drops (`OUTRIDER_KEEP_MESSAGES_DAYS`) is no longer counted."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._lock = asyncio.Lock()
        self._past: Totals = {}
        self._past_before: datetime | None = None
        self._last: Totals = {}
        self._read_s = float("-inf")

    async def now(self) -> Mapping[tuple[str, str], int]:
        """Messages by channel and state, at most five seconds old; the last reading while the database is away."""
        async with self._lock:
            if time.monotonic() - self._read_s >= _KEPT_S:
                try:
                    self._last = await self._read()
                except (OutriderError, TimeoutError) as error:
                    _log.warning("totals_failed", error=type(error).__name__)
                self._read_s = time.monotonic()
            return self._last

    async def _read(self) -> Totals:
        # an hour ends folded: what is appended in it is folded within seconds, so the one before it does not change
        hour = utc_now().replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
        if hour != self._past_before:
            async with asyncio.timeout(_PAST_PATIENCE_S), self._db.uow(Role.ENGINE) as uow:
                self._past = await stats.totals_before(uow.raw, hour)
            self._past_before = hour
        async with asyncio.timeout(_PATIENCE_S), self._db.uow(Role.ENGINE) as uow:
            recent = await stats.totals_since(uow.raw, hour)
        total = Counter(self._past)
        total.update(recent)
        return dict(total)
