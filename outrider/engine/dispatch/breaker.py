"""The breaker: tells circuits what sends came to, a refusal of a whole account while the send still runs.

Owns when circuits are told; what they make of it is `domain/senders/circuits.py`'s, which message goes by which
connection `routes.py`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from uuid import UUID

import asyncpg
import structlog

from outrider.base.clock import boottime_s
from outrider.base.errors import Unavailable
from outrider.base.settings import Settings
from outrider.data.db import Database
from outrider.domain.senders import circuits
from outrider.engine.dispatch.routes import Tally

_log = structlog.get_logger(__name__)


class Breaker:
    """For one worker."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._limits = circuits.Limits.of(settings)
        self._telling: set[asyncio.Task[None]] = set()

    def refused(self, tenant_id: UUID, tally: Tally) -> None:
        """An account was refused or slowed down: tell its circuit at once, which stops the other workers."""
        tally.is_told = True
        task = asyncio.create_task(self._tell(tenant_id, tally), name=f"circuit {tally.route.connection_id}")
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def tell(self, tenant_id: UUID, tallies: Iterable[Tally]) -> None:
        """Tell what sends came to that is worth telling, when they have ended."""
        for tally in tallies:
            is_news = tally.is_failure or (tally.answered and tally.route.is_noted) or tally.route.is_try
            if is_news and not tally.is_told:
                await self._tell(tenant_id, tally)

    async def close(self) -> None:
        """Wait for what is being told."""
        await asyncio.gather(*self._telling, return_exceptions=True)

    async def _tell(self, tenant_id: UUID, tally: Tally) -> None:
        """Without a database the next send tells it."""
        try:
            async with self._database.transaction() as raw:
                await self._told(raw, tenant_id, tally)
        except Unavailable as error:
            _log.warning("circuit_not_told", code=error.code)

    async def _told(self, raw: asyncpg.Connection, tenant_id: UUID, tally: Tally) -> None:
        route = tally.route
        if tally.is_failure:
            route.is_noted = True
            state = await circuits.failed(
                raw, tenant_id, route.connection_id, tally.cause, self._limits, wish_s=tally.wish_s,
                version=route.version, age_s=boottime_s() - tally.began_s,
            )  # fmt: skip
            if state == "open":
                route.left, route.account.is_closed = 0, True
                _log.warning("connection_left_alone", connection=str(route.connection_id), cause=tally.cause)
        elif tally.answered:
            await circuits.passed(raw, tenant_id, route.connection_id, tally.answered, self._limits)
        else:
            await circuits.untried(raw, tenant_id, route.connection_id)
