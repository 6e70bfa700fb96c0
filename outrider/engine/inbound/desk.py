"""The desk where callbacks are taken in: many of a tenant in one transaction, each answered after the commit.

Owns what waits for its commit, within bounds; counts what was refused and writes the counts down every second.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from uuid import UUID

import structlog

from outrider.base import failpoint
from outrider.base.clock import boottime_s
from outrider.base.errors import OutriderError, Unavailable
from outrider.contracts.callbacks import Inbound
from outrider.contracts.channel import Channel
from outrider.data.db import Role, UnitOfWork
from outrider.data.runtime import Runtime
from outrider.domain.callbacks import take
from outrider.domain.callbacks.rows import SQL
from outrider.domain.callbacks.take import Came, Kept
from outrider.engine.inbound import writing
from outrider.engine.inbound.writing import Text

_log = structlog.get_logger(__name__)
_MOST_WAITING = 5_000
_AT_ONCE = 200
_EVERY_S = 1.0
_PARKED_EVERY_S = 5.0
_MOST_REFUSALS = 10_000
_PATIENCE_S = 6.0
"""So long the database is asked again; Twilio waits 15 s for an answer."""
_PAUSE_S = 0.25
_REPORTS_AT_A_TIME = 2
"""Transactions of a tenant that keep reports: while one is committed, the next is filled. What people write is kept in
the order in which it came, one after another: a START after a STOP is not a STOP after a START."""
_Source = tuple[str, str]
"""Where something came from, and why it was not taken."""
_Queue = tuple[UUID, bool]
"""A tenant, and whether it is what people write."""


@dataclass(slots=True, eq=False)
class _Waiting:
    came: Came
    channel: str
    since_s: float = field(default_factory=boottime_s)
    reply: asyncio.Future[str] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


@dataclass(slots=True, eq=False)
class Tally:
    """What was not taken of one connection's, since it was last written down."""

    tenant_id: UUID
    connection_id: UUID
    counts: dict[_Source, int] = field(default_factory=dict)


class Desk:
    """The callbacks of one process that are not committed yet."""

    def __init__(self, runtime: Runtime) -> None:
        self._db = runtime.db
        self._channels: Mapping[str, Channel] = runtime.channels
        self._waiting: dict[_Queue, list[_Waiting]] = defaultdict(list)
        self._carriers: Counter[_Queue] = Counter()
        self._running: set[asyncio.Task[None]] = set()
        self._waiting_count = 0
        self._tallies: list[Tally] = []
        self._source_count = 0
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.lag_s = 0.0
        """How long the oldest report whose turn it is has waited for it, in the whole installation."""
        self.parked_count = 0
        """Reports that could not be applied yet and are tried again and again, in the whole installation."""
        self.parked_s = 0.0
        """How long ago the oldest of them came."""
        self._parked_read_s = -_PARKED_EVERY_S

    def start(self) -> None:
        """Write counts down from now on."""
        self._task = asyncio.create_task(self._run(), name="callback counts")

    async def close(self) -> None:
        """Finish what is under way."""
        self._stop.set()
        if self._task is not None:
            await self._task
        while self._running:
            await asyncio.wait(self._running)

    async def take(self, tenant_id: UUID, channel: str, came: Came) -> str:
        """Keep one callback; gives what whoever wrote is answered.

        Raises:  Unavailable: nothing is kept that the provider would not tell again.
        """
        if self._waiting_count >= _MOST_WAITING:
            raise Unavailable("callbacks_waiting", "too many callbacks wait for the database")
        waiting = _Waiting(came, channel)
        queue = (tenant_id, isinstance(came.told, Inbound))
        self._waiting[queue].append(waiting)
        self._waiting_count += 1
        if self._carriers[queue] < (1 if isinstance(came.told, Inbound) else _REPORTS_AT_A_TIME):
            self._carriers[queue] += 1
            task = asyncio.create_task(self._carry(queue))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        return await waiting.reply  # whoever hangs up takes back only the answer

    def refuse(self, tally: Tally, source: str, reason: str) -> None:
        """Count one that was not taken; never waits."""
        self._count(tally, (source[:60], reason[:60]), 1)

    def _count(self, tally: Tally, key: _Source, count: int) -> None:
        """Count some of a source; so many sources are told apart, and no more while the database is away."""
        counts = tally.counts
        if not counts:
            self._tallies.append(tally)
        if key not in counts:
            if self._source_count >= _MOST_REFUSALS:
                key = ("many", key[1])
            self._source_count += key not in counts
        counts[key] = counts.get(key, 0) + count

    async def _carry(self, queue: _Queue) -> None:
        """Commit what waits in a queue, until nothing does."""
        try:
            while batch := self._waiting[queue][:_AT_ONCE]:
                del self._waiting[queue][:_AT_ONCE]
                self._waiting_count -= len(batch)
                await self._keep(queue[0], batch)
        finally:  # in the same step as the last look: who comes after it finds one carrier less and begins anew
            self._carriers[queue] -= 1
            if not self._carriers[queue]:
                del self._carriers[queue]
                self._waiting.pop(queue, None)

    async def _keep(self, tenant_id: UUID, batch: list[_Waiting]) -> None:
        """Commit a batch and answer it; when one of it is at fault, each by itself, so that it costs only itself."""
        try:
            replies = await self._commit(tenant_id, batch)
        except Unavailable as error:
            # not every provider tells again what somebody wrote; all wait some seconds for their answer
            if boottime_s() - batch[0].since_s >= _PATIENCE_S:
                _fail(batch, error)
                return
            await asyncio.sleep(_PAUSE_S)
            await self._keep(tenant_id, batch)
        except Exception as error:  # noqa: BLE001 - whoever can tells again; the next ones must not suffer
            if len(batch) > 1:
                for each in batch:
                    await self._keep(tenant_id, [each])
                return
            _log.exception("webhook_unkept", tenant=str(tenant_id), key=batch[0].came.told.key)
            unkept = Unavailable("callbacks_unkept", "the callback could not be kept")
            _fail(batch, error if isinstance(error, OutriderError) else unkept)
        else:
            for waiting, reply in zip(batch, replies, strict=True):
                if not waiting.reply.done():
                    waiting.reply.set_result(reply)

    async def _commit(self, tenant_id: UUID, batch: list[_Waiting]) -> list[str]:
        async with self._db.uow(Role.ENGINE, tenant_id) as uow:
            kept = await take.take_in(uow.raw, tenant_id, [each.came for each in batch])
            replies = await self._answers(uow, batch, kept)
            if failpoint.ARMED:
                failpoint.hit("callbacks.before_commit")
        if failpoint.ARMED:
            failpoint.hit("callbacks.committed")
        for each, row in zip(batch, kept, strict=True):
            if row.is_other:
                _log.warning("webhook_conflicting", tenant=str(tenant_id), key=each.came.told.key, report=str(row.id))
        return replies

    async def _answers(self, uow: UnitOfWork, batch: Sequence[_Waiting], kept: Sequence[Kept]) -> list[str]:
        """What each is answered; only what somebody wrote, and for the first time, is."""
        replies = [""] * len(batch)
        texts: dict[int, Text] = {}
        for at, (waiting, row) in enumerate(zip(batch, kept, strict=True)):
            told = waiting.came.told
            if isinstance(told, Inbound) and row.is_new:
                texts[at] = Text(self._channels[waiting.channel], waiting.came.connection_id, row.id, told)
        if texts:
            for at, reply in zip(texts, await writing.take_all(uow, list(texts.values())), strict=True):
                replies[at] = reply
        return replies

    async def _run(self) -> None:
        while not self._stop.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), _EVERY_S)
            try:
                await self._look()
            except OutriderError as error:
                _log.warning("webhook_counts_wait", code=error.code)
            except Exception:  # noqa: BLE001 - the last resort: what is looked at every second is looked at again
                _log.exception("webhook_look_failed")

    async def _look(self) -> None:
        """Write down what was refused, and see how long reports wait."""
        await self._write_down()
        async with self._db.uow(Role.ENGINE) as uow:
            waiting = await SQL.tenants_with_reports.many(uow.raw)
            is_due = boottime_s() - self._parked_read_s >= _PARKED_EVERY_S
            parked = await SQL.reports_parked.one(uow.raw) if is_due else None
        self.lag_s = max((row["waited_s"] for row in waiting), default=0.0)
        if parked is not None:
            self._parked_read_s = boottime_s()
            self.parked_count, self.parked_s = parked["n"], parked["oldest_s"]

    async def _write_down(self) -> None:
        """Write counts down, a tenant's in one statement; what the database does not take now is counted on."""
        tallies, self._tallies, self._source_count = self._tallies, [], 0
        by_tenant: dict[UUID, list[tuple[Tally, dict[_Source, int]]]] = defaultdict(list)
        for tally in tallies:
            by_tenant[tally.tenant_id].append((tally, tally.counts))
            tally.counts = {}
        while by_tenant:
            tenant_id, counted = by_tenant.popitem()
            sums: Counter[tuple[UUID, str, str]] = Counter()  # a connection that was read anew has two tallies
            for tally, counts in counted:
                sums.update({(tally.connection_id, *key): count for key, count in counts.items()})
            try:
                async with self._db.uow(Role.ENGINE, tenant_id) as uow:
                    await take.refused(uow.raw, tenant_id, [(*key, count) for key, count in sums.items()])
            except OutriderError:
                for tally, counts in chain(counted, *by_tenant.values()):
                    for key, count in counts.items():
                        self._count(tally, key, count)
                raise
            except Exception:  # noqa: BLE001 - the last resort: one tenant's counts are worth less than the others'
                _log.exception("webhook_counts_lost", tenant=str(tenant_id))


def _fail(batch: list[_Waiting], error: OutriderError) -> None:
    for waiting in batch:
        if not waiting.reply.done():
            waiting.reply.set_exception(error)
            waiting.reply.exception()  # whoever hung up does not look; that is no fault
