"""Upkeep loops: what keeps tables in shape by itself. Each round takes small bites and may run in several processes.

Owns partitions and retention of the data plane; the settings `keep_…` say how long. Nothing open is ever dropped.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from datetime import timedelta
from uuid import UUID

import structlog

from outrider.base.clock import utc_now
from outrider.base.ids import first_id_at
from outrider.contracts.actor import Actor
from outrider.data.db import Role
from outrider.data.runtime import Runtime
from outrider.data.sql import load
from outrider.domain.audit import verify
from outrider.domain.audit.prune import prune
from outrider.domain.contacts.rows import SQL as CONTACTS
from outrider.domain.messages.rows import SQL
from outrider.domain.templates.rows import SQL as TEMPLATES
from outrider.domain.tenants import sessions
from outrider.domain.tracking.rows import SQL as TRACKING
from outrider.engine.loop import Loop

_log = structlog.get_logger(__name__)
_UPKEEP = load(__package__)
_HOUR_S = 3600.0
_BITE = 10_000
_ACTOR = Actor("system", "upkeep")
_BOUNDS = re.compile(r"FROM \('(?P<low>[0-9a-f-]{36})'\) TO \('(?P<high>[0-9a-f-]{36})'\)")


def loops(runtime: Runtime) -> list[Loop]:
    """What a worker process runs beside its dispatch."""
    upkeep = _Upkeep(runtime)
    return [
        Loop("fold_rollups", 1.0, upkeep.fold),
        Loop("partitions", _HOUR_S, upkeep.partitions),
        Loop("retention", _HOUR_S, upkeep.retention),
        Loop("audit_heads", 24 * _HOUR_S, upkeep.log_audit_heads),
    ]


class _Upkeep:
    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._settings = runtime.settings

    async def fold(self) -> bool:
        """Fold what was counted since the last second."""
        async with self._runtime.db.uow(Role.ENGINE) as uow:
            return bool(await SQL.fold_rollups.value(uow.raw) >= _BITE)

    async def partitions(self) -> bool:
        """Make partitions ahead, drop those past their time, and raise an alarm when rows fell outside."""
        async with self._runtime.db.uow(Role.ENGINE) as uow:
            # first: where rows fell outside, the month they belong to cannot be made
            if await SQL.default_partition_rows.value(uow.raw):
                _log.error("rows_in_default_partition", hint="messages were accepted for a month without partition")
        async with self._runtime.db.uow(Role.OWNER) as uow:
            await _UPKEEP.short_lock.run(uow.raw)
            made = await _UPKEEP.make_partitions.value(uow.raw, self._settings.partitions_ahead)
        if made:
            _log.info("partitions_made", count=made)
        async with self._runtime.db.uow(Role.ENGINE) as uow:
            horizon = utc_now() - timedelta(days=self._settings.keep_messages_days)
            old = await SQL.partitions_old.many(uow.raw, first_id_at(horizon))
        for row in old:
            await self._drop(row["name"], row["bound"])
        return False

    async def _drop(self, name: str, bound: str) -> None:
        """Drop one month of the ledger with its events, unless something in it is still open."""
        match = _BOUNDS.search(bound)
        if match is None:
            return
        async with self._runtime.db.uow(Role.ENGINE) as uow:
            if await SQL.partition_has_open.value(uow.raw, UUID(match["low"]), UUID(match["high"])):
                _log.warning("partition_kept", partition=name, reason="it holds open or uncertain messages")
                return
        async with self._runtime.db.uow(Role.OWNER) as uow:
            await _UPKEEP.short_lock.run(uow.raw)
            await _UPKEEP.drop_month.value(uow.raw, name.removeprefix("messages_"))
        _log.info("partition_dropped", partition=name, keep_days=self._settings.keep_messages_days)

    async def retention(self) -> bool:
        """Drop what is past its time, in small bites, table by table."""
        keep = self._settings
        purges: tuple[tuple[str, Callable[..., Awaitable[int]], int], ...] = (
            ("idempotency_keys", SQL.idempotency_purge.run, keep.keep_idempotency_hours),
            ("rollups", SQL.rollups_purge.run, keep.keep_messages_days),
            ("message_responses", TRACKING.responses_purge.run, keep.keep_messages_days),
            ("response_counts", TRACKING.counts_purge.run, keep.keep_messages_days),
            ("campaign_recipients", SQL.recipients_purge.run, keep.keep_messages_days),
            ("imports", CONTACTS.imports_purge.run, keep.keep_imports_days),
            ("contents", TEMPLATES.contents_purge.run, keep.keep_contents_days),
        )
        for table, purge, limit in purges:
            while True:
                async with self._runtime.db.uow(Role.ENGINE) as uow:
                    gone = await purge(uow.raw, limit, _BITE)
                if gone:
                    _log.info("retention", table=table, dropped=gone)
                if gone < _BITE:
                    break
        async with self._runtime.db.uow(Role.ENGINE) as uow:
            await SQL.worker_forget.run(uow.raw, keep.keep_workers_days)
            await sessions.prune(uow, idle_s=keep.session_idle_s)
            chains = await verify.heads(uow)
        before = utc_now() - timedelta(days=keep.keep_audit_days)
        for chain in chains:
            async with self._runtime.db.uow(Role.ENGINE) as uow:
                if gone := await prune(uow, _ACTOR, chain.tenant_id, before):
                    _log.info("retention", table="audit_log", tenant=str(chain.tenant_id), dropped=gone)
        return False

    async def log_audit_heads(self) -> bool:
        """Write the head of each audit chain to the log, so that a cut tail shows."""
        async with self._runtime.db.uow(Role.ENGINE) as uow:
            for head in await verify.heads(uow):
                _log.info("audit_head", tenant=str(head.tenant_id), seq=head.seq, hash=head.hash)
        return False
