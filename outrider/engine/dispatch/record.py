"""The recorder: outcomes become ledger, events and rollups, one transaction per flush, fenced by the lease token.

Owns what is not recorded yet and keeps it until the database takes it; never decides what an outcome is.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from uuid import UUID

import asyncpg
import structlog

from outrider.base import failpoint
from outrider.base.clock import boottime_s
from outrider.base.errors import Unavailable
from outrider.base.settings import Settings
from outrider.contracts.backoff import delay_s
from outrider.contracts.outcome import CAUSES, REFUSED, Accepted, Deferred, Outcome, Rejected, Retry, Uncertain, Unsent
from outrider.data.db import Database
from outrider.domain.limits import allowances, charges, contacted
from outrider.domain.messages import bounces, keyed
from outrider.domain.messages.bounces import Failure
from outrider.domain.messages.rows import SQL
from outrider.engine.dispatch.batch import UNREACHED, Batch, Claimed
from outrider.engine.dispatch.journal import Journal
from outrider.engine.loop import UNASKED_S, pause

_log = structlog.get_logger(__name__)
_DETAIL = 500
_BELATED_S = 60.0
"""For so long a late acceptance is told again: nobody writes a message for longer."""
_LATE_AT_ONCE = 500
_MANY = 10
"""Transactional results in one flush: with more, the next one waits for others as those of campaigns do."""


@dataclass(slots=True)
class Result:
    """One settled message on its way into the database."""

    batch: Batch
    message: Claimed
    outcome: Outcome


@dataclass(slots=True)
class Row:
    """What to write for one message; `kind` chooses the statement. `is_doubtful`: it may have left, and is charged.

    `suppress`, `is_soft`: what its failure means for its address. `is_again`: other attempts went before it.
    """

    kind: str
    id: UUID
    token: int
    state: str = ""
    provider_id: str | None = None
    code: str | None = None
    detail: str | None = None
    delay_s: float = 0.0
    crash: int = 0
    is_doubtful: bool = False
    suppress: str = ""
    is_soft: bool = False
    is_again: bool = False


def row_for(
    message_id: UUID, token: int, outcome: Outcome, *, attempt: int, may_repeat: bool, settings: Settings
) -> Row:
    """What an outcome means: the protocol between provider and engine, in one place.

    Takes:   may_repeat: the sender promises at_least_once, so an attempt without answer is made again, unless its
             request can be repeated instead.
    """
    match outcome:
        case Accepted(provider_id, _detail):
            return Row("sent", message_id, token, "sent", provider_id, is_again=attempt > 1)
        case Unsent(reason, after_s) if after_s is not None:
            return Row("hold_back", message_id, token, detail=reason[:_DETAIL], delay_s=after_s)
        case Unsent(_reason):
            return Row("hand_back", message_id, token)
        case Rejected(cause, detail, suppress, is_soft):
            return Row(
                "finish", message_id, token, "failed", None, cause, detail[:_DETAIL], suppress=suppress, is_soft=is_soft
            )
        case Uncertain(cause, detail, is_keyed) if is_keyed or not may_repeat:
            return Row("finish", message_id, token, "uncertain", None, cause, detail[:_DETAIL])
        case Uncertain(cause, detail):
            after_s, is_soft = None, False
            retry: Retry = "schedule"
        case Deferred(cause, detail) if cause in REFUSED:
            return Row("wait", message_id, token, code=cause, detail=detail[:_DETAIL])
        case Deferred(cause, detail, after_s, is_soft):
            known = CAUSES.get(cause)
            retry = known.retry if known else "schedule"
    pause_s = delay_s(attempt, retry, first_s=settings.retry_first_s, most_s=settings.retry_most_s, asked_s=after_s)
    if pause_s is None or attempt >= settings.retry_attempts:
        state = "uncertain" if isinstance(outcome, Uncertain) else "failed"
        return Row("finish", message_id, token, state, None, cause, detail[:_DETAIL], is_soft=is_soft)
    is_doubtful = isinstance(outcome, Uncertain)
    return Row(
        "defer", message_id, token, code=cause, detail=detail[:_DETAIL], delay_s=pause_s, is_doubtful=is_doubtful
    )


async def write(raw: asyncpg.Connection, tenant_id: UUID, rows: list[Row]) -> set[UUID]:
    """Write rows of one tenant; see `write_all`."""
    return await write_all(raw, {tenant_id: rows})


async def write_all(raw: asyncpg.Connection, rows: Mapping[UUID, Sequence[Row]]) -> set[UUID]:
    """Write rows by tenant: acceptances in one statement for all, the rest with at most one per tenant and kind.

    Gives:   the ids that were still leased under their token; the others were fenced off.
    """
    sent = [(tenant_id, row) for tenant_id, part in rows.items() for row in part if row.kind == "sent"]
    ours = await _write_sent(raw, sent) if sent else set()
    for tenant_id in sorted(rows):  # in one order everywhere: accounts are locked on the way
        others = [row for row in rows[tenant_id] if row.kind != "sent"]
        by_kind: dict[str, list[Row]] = defaultdict(list)
        for row in others:
            by_kind[row.kind].append(row)
        for kind, same in by_kind.items():
            ours |= await _write_kind(raw, tenant_id, kind, same)
        again = {(row.id, row.token): row.provider_id for row in rows[tenant_id] if row.is_again and row.provider_id}
        if again:  # an attempt before it may have gone as well, and has a bill of its own
            await charges.name(raw, tenant_id, again)
        unsent = [row for row in others if row.id in ours and _is_unsent(row)]
        if unsent:
            ids, tokens = [row.id for row in unsent], [row.token for row in unsent]
            await allowances.release(raw, tenant_id, ids, tokens)  # before money, as claims lock
            await charges.release(raw, tenant_id, ids, tokens)
            await contacted.release(raw, tenant_id, ids, tokens)
            await keyed.forget(raw, tenant_id, ids, tokens)
        telling = [
            Failure(row.id, row.code or "", row.detail or "", row.suppress, row.is_soft)
            for row in others
            if row.id in ours and (row.suppress or row.is_soft)
        ]
        if telling:
            await bounces.failed(raw, tenant_id, telling)
    return ours


async def _write_sent(raw: asyncpg.Connection, rows: Sequence[tuple[UUID, Row]]) -> set[UUID]:
    ids = [row.id for _, row in rows]
    done = await SQL.finish_sent.many(
        raw, [tenant_id for tenant_id, _ in rows], ids, [row.token for _, row in rows],
        [row.provider_id for _, row in rows], min(ids), max(ids),
    )  # fmt: skip
    return {row["id"] for row in done}


async def _write_kind(raw: asyncpg.Connection, tenant_id: UUID, kind: str, rows: list[Row]) -> set[UUID]:
    ids, tokens = [row.id for row in rows], [row.token for row in rows]
    if kind == "finish":
        done = await SQL.finish.many(
            raw, tenant_id, ids, tokens, [row.state for row in rows], [row.provider_id for row in rows],
            [row.code for row in rows], [row.detail for row in rows], min(ids), max(ids),
        )  # fmt: skip
    elif kind == "defer":
        done = await SQL.defer.many(
            raw, tenant_id, ids, tokens, [row.delay_s for row in rows], [row.code for row in rows],
            [row.detail for row in rows],
        )  # fmt: skip
    elif kind == "wait":
        done = await SQL.wait_again.many(
            raw, tenant_id, ids, tokens, [row.code for row in rows], [row.detail for row in rows]
        )
    elif kind == "hold_back":
        done = await SQL.hold_back.many(
            raw, tenant_id, ids, tokens, [row.delay_s for row in rows], [row.detail for row in rows]
        )
    elif kind == "hand_back":
        done = await SQL.hand_back.many(raw, tenant_id, ids, tokens, [row.crash for row in rows])
    else:
        done = await SQL.try_again.many(raw, tenant_id, ids, tokens)
    return {row["id"] for row in done}


def _is_unsent(row: Row) -> bool:
    """Whether an attempt is known not to have been sent, so that nobody bills it."""
    if row.is_doubtful:
        return False
    return row.kind in {"hand_back", "hold_back", "wait", "defer"} or (row.kind == "finish" and row.state == "failed")


@dataclass(slots=True)
class _Line:
    """Results of one class, oldest first. `is_hurried`: what comes alone is written at once."""

    is_hurried: bool
    results: list[Result] = field(default_factory=list)
    due: asyncio.Event = field(default_factory=asyncio.Event)
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    """There is a first one: before, nobody looks."""
    last_count: int = 0
    """How many the flush before this one was given."""

    def is_due(self, most: int) -> bool:
        """Whether nothing more is to be waited for."""
        return len(self.results) >= (1 if self.is_hurried and self.last_count < _MANY else most)


class Recorder:
    """Collects results and flushes them every `flush_s` or `flush_count`, whichever comes first.

    Transactional ones have a line and a transaction of their own, so that they wait for nobody's campaign; one that
    comes alone is written at once, and what comes meanwhile with the next [F93].
    """

    def __init__(
        self, database: Database, journal: Journal, settings: Settings, closed: Callable[[Batch], None]
    ) -> None:
        self._database = database
        self._journal = journal
        self._settings = settings
        self._closed = closed
        self._lines = {"transactional": _Line(is_hurried=True), "bulk": _Line(is_hurried=False)}
        self._may_repeat: Callable[[Batch], bool] = lambda _batch: False
        self._belated: dict[UUID, tuple[UUID, float]] = {}
        """Acceptances that came after the sweep and could not be told yet: message -> tenant, until when they are."""
        self.recorded_count = 0
        self.fenced_count = 0
        self.kind_counts: dict[str, int] = {}

    def promise(self, may_repeat: Callable[[Batch], bool]) -> None:
        """Tell how to find out what a batch's sender promises."""
        self._may_repeat = may_repeat

    @property
    def waiting_count(self) -> int:
        """Results not yet in the database."""
        return sum(len(line.results) for line in self._lines.values())

    def add(self, batch: Batch, message: Claimed, outcome: Outcome) -> None:
        """Take one result; never waits."""
        line = self._lines[batch.lane.message_class]
        line.results.append(Result(batch, message, outcome))
        if len(line.results) == 1:
            line.begun.set()
        if isinstance(outcome, Accepted):
            batch.accepted_count += 1
        elif isinstance(outcome, Deferred) and outcome.cause in UNREACHED:
            batch.unreached_count += 1
        if line.is_due(self._settings.flush_count):
            line.due.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Flush until `stop` and nothing is left; a database that is away is waited for."""
        async with asyncio.TaskGroup() as group:
            for line in self._lines.values():
                group.create_task(self._keep_up(line, stop))

    async def _keep_up(self, line: _Line, stop: asyncio.Event) -> None:
        pause_s = self._settings.flush_s
        while line.results or not stop.is_set():
            if not line.results:
                await pause(stop, UNASKED_S, line.begun)
                continue
            if not line.is_due(self._settings.flush_count):
                with suppress(TimeoutError):
                    await asyncio.wait_for(line.due.wait(), pause_s)
            line.due.clear()
            try:
                await self._record(line, min(len(line.results), self._settings.flush_count))
                pause_s = self._settings.flush_s
            except Unavailable as error:
                pause_s = min(max(pause_s * 2, 0.1), 2.0)
                _log.warning("recording_waits", waiting=self.waiting_count, code=error.code)
                await asyncio.sleep(pause_s)

    async def _record(self, line: _Line, count: int) -> None:
        """Flush the oldest results; when something about them is a bug, one by one, so that it costs only itself."""
        try:
            await self._flush(line.results[:count])
            line.last_count = count
            del line.results[:count]
        except Unavailable:
            raise
        except Exception:  # noqa: BLE001 - the last resort of the recorder: without it nothing of this worker is recorded
            _log.exception("recording_failed", count=count)
            for _ in range(count):
                await self._record_alone(line)

    async def _record_alone(self, line: _Line) -> None:
        """Flush the oldest result; one that cannot be recorded is let go: its lease ends and the sweep decides."""
        result = line.results[0]
        try:
            await self._flush([result])
        except Unavailable:
            raise
        except Exception:  # noqa: BLE001 - as above
            _log.exception(
                "outcome_unrecordable", message=str(result.message.id), outcome=type(result.outcome).__name__
            )
            self._recorded(result)
        del line.results[0]

    def _recorded(self, result: Result) -> None:
        """Nothing more is to be written for this result; the last of a batch closes it."""
        result.batch.unrecorded -= 1
        if result.batch.unrecorded == 0:
            self._journal.done(result.batch.token)
            self._closed(result.batch)

    async def _flush(self, results: list[Result]) -> None:
        """One transaction for everything taken."""
        try:
            self._journal.flush()
        except OSError as error:  # the database is where outcomes belong; the journal only helps the next worker
            _log.warning("journal_lost", error=error.strerror)
        by_tenant: dict[UUID, list[Result]] = defaultdict(list)
        for result in results:
            by_tenant[result.batch.lane.tenant_id].append(result)
        fenced: list[Result] = []
        begin_s = boottime_s()
        async with self._database.transaction() as raw:
            rows = {tenant_id: [self._row(result) for result in part] for tenant_id, part in by_tenant.items()}
            ours = await write_all(raw, rows)
            for tenant_id, part in by_tenant.items():
                late = [result for result in part if result.message.id not in ours]
                if late:
                    fenced += late
                    await self._late(raw, tenant_id, late)
            if failpoint.ARMED:
                failpoint.hit("record.before_commit")
        if failpoint.ARMED:
            failpoint.hit("record.committed")
        self.recorded_count += len(results)
        for outcome, count in Counter([type(result.outcome) for result in results]).items():
            kind = outcome.__name__.lower()
            self.kind_counts[kind] = self.kind_counts.get(kind, 0) + count
        if fenced:
            self.fenced_count += len(fenced)
            _log.warning("outcomes_fenced", count=len(fenced), first=str(fenced[0].message.id))
        _log.debug("flushed", count=len(results), took_ms=round((boottime_s() - begin_s) * 1000, 1))
        for result in results:
            self._recorded(result)

    async def _late(self, raw: asyncpg.Connection, tenant_id: UUID, late: list[Result]) -> None:
        """An acceptance that comes after the lease was swept still tells what became of an uncertain message."""
        accepted = [result.message.id for result in late if isinstance(result.outcome, Accepted)]
        if accepted:
            told = await self._told(raw, tenant_id, accepted)
            until_s = boottime_s() + _BELATED_S
            self._belated |= {each: (tenant_id, until_s) for each in accepted if each not in told}

    async def tell_late(self) -> bool:
        """Tell late acceptances again whose message somebody else was writing: it may be uncertain all the same."""
        by_tenant: dict[UUID, list[UUID]] = defaultdict(list)
        for message_id, (tenant_id, _until_s) in self._belated.items():
            by_tenant[tenant_id].append(message_id)
        slices = [
            (tenant_id, ids[first : first + _LATE_AT_ONCE])
            for tenant_id, ids in by_tenant.items()
            for first in range(0, len(ids), _LATE_AT_ONCE)
        ]
        for tenant_id, ids in slices:
            async with self._database.transaction() as raw:
                told = await self._told(raw, tenant_id, ids)
            now_s = boottime_s()
            for message_id in ids:
                if message_id in told or self._belated.get(message_id, (tenant_id, 0.0))[1] < now_s:
                    self._belated.pop(message_id, None)
        return False

    @staticmethod
    async def _told(raw: asyncpg.Connection, tenant_id: UUID, accepted: Sequence[UUID]) -> set[UUID]:
        rows = await SQL.uncertain_mark.many(raw, tenant_id, accepted, "sent", "system", "the answer came late")
        return {row["id"] for row in rows}

    def _row(self, result: Result) -> Row:
        return row_for(
            result.message.id,
            result.batch.token,
            result.outcome,
            attempt=result.message.attempt,
            may_repeat=self._may_repeat(result.batch),
            settings=self._settings,
        )
