"""Upkeep: what keeps tables in shape. Each round takes small bites and may run in several processes.

Owns partitions and retention; the settings `keep_…` say how long. Nothing open is ever dropped. Retention and the heads
of the audit chains are jobs of the installation's schedules; folding runs every second, in workers and where messages
are accepted; partitions are made by workers and jobs: without next month's nothing could be accepted in good order, so
a worker makes sure of them without a scheduler.
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
from outrider.domain.callbacks.rows import SQL as CALLBACKS
from outrider.domain.campaigns.rows import SQL as CAMPAIGNS
from outrider.domain.contacts.rows import IMPORTS
from outrider.domain.contacts.rows import SQL as CONTACTS
from outrider.domain.limits.rows import PACES, SPENDING
from outrider.domain.limits.rows import SQL as LIMITS
from outrider.domain.messages import bounces, fills
from outrider.domain.messages.rows import BOUNCES, FEED, KEYED, POISON, QUOTA, SQL
from outrider.domain.people.expire import expire
from outrider.domain.people.rows import SQL as PEOPLE
from outrider.domain.schedules.rows import SQL as SCHEDULES
from outrider.domain.signup.rows import SQL as SIGNUP
from outrider.domain.templates.rows import SQL as TEMPLATES
from outrider.domain.tenants import sessions
from outrider.domain.tracking.rows import SQL as TRACKING
from outrider.engine.loop import Loop
from outrider.engine.maintenance import brakes, expiry, money, recounting, warming

_log = structlog.get_logger(__name__)
_UPKEEP = load(__package__)
_HOUR_S = 3600.0
FOLD_EVERY_S = 1.0
_FOLDED_S = 10.0
"""After so long without a sign of it others take folding over."""

_BITE = 10_000
_AUDIENCE_HOURS = 24
_COUNTED_HOURS = 1440
"""The longest time of a frequency cap."""
_SOURCE_HOURS = 48
"""Longer than the longest time in which sources are counted."""
_WARM_UP_HOURS = 72
"""Longer than any day of a plan."""
_DRY_RUN_DAYS = 1
_KEYED_HOURS = 48
"""Twice as long as a provider knows a key."""
_ACTOR = Actor("system", "upkeep")
_BOUNDS = re.compile(r"FROM \('(?P<low>[0-9a-f-]{36})'\) TO \('(?P<high>[0-9a-f-]{36})'\)")


def loops(runtime: Runtime) -> list[Loop]:
    """What a worker process runs beside its dispatch."""
    upkeep = Upkeep(runtime)

    async def partitions() -> bool:
        await upkeep.partitions()
        return False

    return [
        Loop("fold_rollups", FOLD_EVERY_S, upkeep.fold),
        Loop("recount_open", _HOUR_S, upkeep.recount),
        Loop("partitions", _HOUR_S, partitions),
        *money.loops(runtime),
        *brakes.loops(runtime),
        *warming.loops(runtime),
        *recounting.loops(runtime),
        *expiry.loops(runtime),
    ]


def standing_in(runtime: Runtime) -> Loop:
    """For processes that let messages in: fold while no worker does; then the queue fills, and has to be counted."""
    return Loop("fold_rollups", FOLD_EVERY_S, Upkeep(runtime).fold_for_others)


class Upkeep:
    """The rounds of upkeep, for loops and for jobs."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._settings = runtime.settings

    async def fold(self) -> bool:
        """Fold what was counted since the last second."""
        async with self._runtime.db.uow(Role.ENGINE) as uow:
            await QUOTA.fold_turn.run(uow.raw)
            return bool(await SQL.fold_rollups.value(uow.raw) >= _BITE)

    async def fold_for_others(self) -> bool:
        """Fold, unless a worker has done it lately."""
        async with self._runtime.db.uow(Role.ENGINE) as uow:
            if await QUOTA.is_folded.value(uow.raw, _FOLDED_S):
                return False
        return await self.fold()

    async def recount(self) -> bool:
        """Count open messages anew, once an hour in the whole installation."""
        async with self._runtime.db.uow(Role.ENGINE) as uow:
            await fills.recount(uow)
        return False

    async def partitions(self) -> dict[str, int]:
        """Make partitions ahead, drop those past their time, and raise an alarm when rows fell outside.

        Gives:   how many were made, and how many months were dropped.
        """
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
        dropped = [await self._drop(row["name"], row["bound"]) for row in old]
        return {"made": made, "dropped": sum(dropped)}

    async def _drop(self, name: str, bound: str) -> bool:
        """Drop one month of the ledger with its events, unless something in it is still open; whether it went."""
        match = _BOUNDS.search(bound)
        if match is None:
            return False
        async with self._runtime.db.uow(Role.ENGINE) as uow:
            if await SQL.partition_has_open.value(uow.raw, UUID(match["low"]), UUID(match["high"])):
                _log.warning("partition_kept", partition=name, reason="it holds open or uncertain messages")
                return False
        async with self._runtime.db.uow(Role.OWNER) as uow:
            await _UPKEEP.short_lock.run(uow.raw)
            await _UPKEEP.drop_month.value(uow.raw, name.removeprefix("messages_"))
        _log.info("partition_dropped", partition=name, keep_days=self._settings.keep_messages_days)
        return True

    async def retention(self, done: Callable[[int, str], Awaitable[None]] | None = None) -> dict[str, int]:
        """Drop what is past its time, in small bites, table by table.

        Takes:   done  told after each bite how many rows went so far, and from which table
        Gives:   rows dropped per table, those with any.
        """
        keep = self._settings
        dropped: dict[str, int] = {}
        purges: tuple[tuple[str, Callable[..., Awaitable[int]], int], ...] = (
            ("idempotency_keys", SQL.idempotency_purge.run, keep.keep_idempotency_hours),
            ("rollups", SQL.rollups_purge.run, keep.keep_messages_days),
            ("message_responses", TRACKING.responses_purge.run, keep.keep_messages_days),
            ("response_counts", TRACKING.counts_purge.run, keep.keep_messages_days),
            ("campaign_events", FEED.campaign_events_purge.run, keep.keep_messages_days),
            ("campaign_recipients", SQL.recipients_purge.run, keep.keep_messages_days),
            ("campaign_audience", CAMPAIGNS.audience_purge.run, _AUDIENCE_HOURS),
            ("import_changes", IMPORTS.changes_purge.run, min(keep.keep_import_changes_days, keep.keep_imports_days)),
            ("import_keys", IMPORTS.keys_purge.run, _DRY_RUN_DAYS),
            ("buckets", LIMITS.paces_purge.run, _AUDIENCE_HOURS),
            ("destination_turns", PACES.destination_turns_purge.run, _AUDIENCE_HOURS),
            ("destination_buckets", PACES.destination_buckets_purge.run, _AUDIENCE_HOURS),
            ("account_buckets", PACES.account_buckets_purge.run, _AUDIENCE_HOURS),
            ("account_turns", PACES.account_turns_purge.run, _AUDIENCE_HOURS),
            ("message_sources", PACES.sources_purge.run, _SOURCE_HOURS),
            ("warm_up_sends", PACES.warm_up_sends_purge.run, _WARM_UP_HOURS),
            ("contact_sends", SPENDING.contacted_purge.run, _COUNTED_HOURS),
            ("charges", SPENDING.charges_purge.run, keep.keep_messages_days),
            ("budget_events", SPENDING.budget_events_purge.run, keep.keep_messages_days),
            ("soft_bounces", BOUNCES.soft_bounces_purge.run, bounces.KEEP_DAYS),
            ("poison_messages", POISON.poison_purge.run, keep.keep_messages_days),
            ("keyed_requests", KEYED.keyed_requests_purge.run, _KEYED_HOURS),
            ("imports", CONTACTS.imports_purge.run, keep.keep_imports_days),
            ("exports", PEOPLE.exports_purge.run, keep.keep_exports_days),
            ("signups", SIGNUP.signups_purge.run, keep.keep_signups_days),
            ("contents", TEMPLATES.contents_purge.run, keep.keep_contents_days),
            ("webhook_events", CALLBACKS.events_purge.run, keep.keep_callbacks_days),
            ("webhook_refusals", CALLBACKS.refusals_purge.run, keep.keep_callbacks_days),
            ("callback_exceptions", CALLBACKS.exceptions_purge.run, keep.keep_callbacks_days),
            ("inbound_messages", CALLBACKS.inbound_purge.run, keep.keep_messages_days),
            ("schedule_runs", SCHEDULES.runs_purge.run, keep.keep_schedule_runs_days),
        )
        for table, purge, limit in purges:
            while True:
                async with self._runtime.db.uow(Role.ENGINE) as uow:
                    gone = await purge(uow.raw, limit, _BITE)
                if gone:
                    dropped[table] = dropped.get(table, 0) + gone
                    _log.info("retention", table=table, dropped=gone)
                if done is not None:
                    await done(sum(dropped.values()), table)
                if gone < _BITE:
                    break
        if gone := await expire(self._runtime.db, keep.data_dir):
            _log.info("retention", table="exports", files=gone)
        async with self._runtime.db.uow(Role.ENGINE) as uow:
            await SQL.worker_forget.run(uow.raw, keep.keep_workers_days)
            await sessions.prune(uow, idle_s=keep.session_idle_s)
            chains = await verify.heads(uow)
        before = utc_now() - timedelta(days=keep.keep_audit_days)
        for chain in chains:
            async with self._runtime.db.uow(Role.ENGINE) as uow:
                if gone := await prune(uow, _ACTOR, chain.tenant_id, before):
                    dropped["audit_log"] = dropped.get("audit_log", 0) + gone
                    _log.info("retention", table="audit_log", tenant=str(chain.tenant_id), dropped=gone)
        return dropped

    async def log_audit_heads(self) -> int:
        """Write the head of each audit chain to the log, so that a cut tail shows. Gives how many there are."""
        async with self._runtime.db.uow(Role.ENGINE) as uow:
            heads = await verify.heads(uow)
        for head in heads:
            _log.info("audit_head", tenant=str(head.tenant_id), seq=head.seq, hash=head.hash)
        return len(heads)
