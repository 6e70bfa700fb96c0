"""Single calls gathered: those that arrive while a transaction is under way share the next one.

Owns the transactions of such groups and who gets which answer; what is accepted is `domain/messages/singles.py`'s. A
caller is answered after the commit that its answer rests on, never before. Nothing waits to be gathered: a call that
comes alone goes alone.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import partial
from typing import Final
from uuid import UUID

import asyncpg

from outrider.base import failpoint
from outrider.base.clock import utc_now
from outrider.base.errors import OutriderError, Refused, RefusedMany, Unavailable
from outrider.data.again import again_if_undone
from outrider.data.db import Database, Role
from outrider.data.runtime import Runtime
from outrider.domain.messages import singles
from outrider.domain.messages.admit import Replay, in_progress
from outrider.domain.messages.quota import FULL_CODES
from outrider.domain.messages.rows import SQL
from outrider.domain.messages.singles import Answer, Single

_AT_ONCE_COUNT: Final = 4
_MOST_CALLS: Final = 100
_TRIES: Final = 3


@dataclass(slots=True, eq=False)
class _Asked:
    """A call and who waits for its answer."""

    call: Single
    answer: asyncio.Future[UUID | Replay] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def end(self, answer: Answer | Exception) -> None:
        """Tell the caller, once; whoever has gone is not told, and what was accepted stays accepted."""
        if self.answer.done():
            return
        told = _as_told(answer)
        if isinstance(told, Exception):
            self.answer.set_exception(told)
        else:
            self.answer.set_result(told)


class Gathering:
    """The single calls of one process, by tenant; tenants take turns."""

    def __init__(self, runtime: Runtime) -> None:
        settings = runtime.settings
        self._channels = runtime.channels
        self._database = Database(
            runtime.database_url,
            pool_size=_AT_ONCE_COUNT,
            wait_s=settings.db_pool_wait_s,
            role=Role.ENGINE,
            statement_timeout_s=settings.statement_timeout_s,
            name="outrider api single calls",
        )
        self._waiting: OrderedDict[UUID, list[_Asked]] = OrderedDict()
        self._keys: set[tuple[UUID, str]] = set()
        self._running: dict[UUID, asyncio.Task[None]] = {}

    async def close(self) -> None:
        """Finish what is under way."""
        while self._running:
            await asyncio.wait(self._running.values())
        await self._database.close()

    async def accept(self, tenant_id: UUID, call: Single) -> UUID | Replay:
        """Have one call accepted durably, together with others of the tenant.

        Gives:   the id of its message, or what was answered under its key before.
        Raises:  RefusedMany with its mistake; Refused(idempotency_in_progress, idempotency_mismatch);
                 Refused(tenant_queue_full, 429); Unavailable: it may be repeated under its key.
        """
        asked = _Asked(call)
        if call.key is not None:
            if (tenant_id, call.key) in self._keys:
                raise in_progress()
            self._keys.add((tenant_id, call.key))
        self._waiting.setdefault(tenant_id, []).append(asked)
        self._begin()
        return await asked.answer

    async def tell_ready(self) -> None:
        """Wake the workers; on a connection of this role that costs a third of what a unit of work does."""
        async with self._database.transaction() as raw:
            await SQL.tell_ready.run(raw)

    def _begin(self) -> None:
        """Start a transaction for each tenant that waits and has none, in their turn."""
        for tenant_id in list(self._waiting):
            if len(self._running) >= _AT_ONCE_COUNT:
                return
            if tenant_id not in self._running:
                self._running[tenant_id] = task = asyncio.create_task(self._run(tenant_id))
                task.add_done_callback(partial(self._ended, tenant_id))

    def _ended(self, tenant_id: UUID, _task: asyncio.Task[None]) -> None:
        del self._running[tenant_id]
        self._begin()

    async def _run(self, tenant_id: UUID) -> None:
        """One group of a tenant, from its begin to the last answer."""
        group: list[_Asked] = []
        try:
            await again_if_undone(partial(self._transact, tenant_id, group))
        except OutriderError as error:
            group = group or self._take(tenant_id)
            for asked in group:
                asked.end(error)
        except Exception as error:  # noqa: BLE001 - what the database refuses of one call is that caller's alone
            group = group or self._take(tenant_id)
            for asked in group:
                if len(group) > 1 or _is_race(error):
                    await self._alone(tenant_id, asked)
                else:
                    asked.end(error)
        finally:
            for asked in group:
                self._keys.discard((tenant_id, asked.call.key or ""))
                asked.end(Unavailable("stopping", "this process is stopping; ask another one, or again"))

    async def _alone(self, tenant_id: UUID, asked: _Asked) -> None:
        """Accept one call of a group that failed as a whole."""
        for _ in range(_TRIES):
            try:
                return await again_if_undone(partial(self._transact, tenant_id, [asked]))
            except Exception as error:  # noqa: BLE001 - whatever it is, it is this caller's
                if not _is_race(error):
                    return asked.end(error)
        return asked.end(in_progress())

    async def _transact(self, tenant_id: UUID, group: list[_Asked]) -> None:
        """Accept a group in one transaction and answer after its commit.

        Takes:   group; an empty one is filled when the transaction has begun: until then calls may join.
        """
        async with self._database.transaction() as raw:
            group.extend([] if group else self._take(tenant_id))
            calls = [asked.call for asked in group]
            answers = await singles.accept(raw, tenant_id, self._channels, calls, now=utc_now())
            if failpoint.ARMED:
                failpoint.hit("accept.before_commit")
        if failpoint.ARMED:
            failpoint.hit("accept.committed")
        for asked, answer in zip(group, answers, strict=True):
            asked.end(answer)

    def _take(self, tenant_id: UUID) -> list[_Asked]:
        """The next group of a tenant, without those whose callers have gone; the tenant's turn is over."""
        waiting = self._waiting.pop(tenant_id, [])
        group, rest = waiting[:_MOST_CALLS], waiting[_MOST_CALLS:]
        if rest:
            self._waiting[tenant_id] = rest
        gone = [asked for asked in group if asked.answer.done()]
        for asked in gone:
            self._keys.discard((tenant_id, asked.call.key or ""))
        return [asked for asked in group if asked not in gone]


def _is_race(error: Exception) -> bool:
    """Another process answered under the same key in this very moment; a repeat finds its answer."""
    return isinstance(error, asyncpg.UniqueViolationError)


def _as_told(answer: Answer | Exception) -> Answer | Exception:
    """Mistakes in a message are listed, as for many messages; what concerns the key or the queue stands alone."""
    if isinstance(answer, Refused) and answer.code not in FULL_CODES and not answer.code.startswith("idempotency_"):
        return RefusedMany([answer])
    return answer
