"""The loop that applies what providers reported: in any order, once, also before the message is finished here.

Owns the rhythm and what a report leads to; each report was committed before the provider was answered.
"""

from __future__ import annotations

from collections import Counter as Counts
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg
import orjson
import structlog
from prometheus_client import Counter, Histogram

from outrider.base import failpoint
from outrider.base.clock import boottime_s
from outrider.base.errors import Unavailable
from outrider.base.ids import NIL
from outrider.contracts.callbacks import RANKS, Bill, State
from outrider.data.db import Role, UnitOfWork
from outrider.data.runtime import Runtime
from outrider.domain.callbacks.rows import SQL
from outrider.domain.contacts import suppressions
from outrider.domain.contacts.suppressions import Entry
from outrider.domain.limits import charges
from outrider.domain.messages import bounces, events, reports
from outrider.domain.messages.bounces import SoftBounce
from outrider.domain.messages.reports import Reported
from outrider.engine.loop import Asking, Loop, woken

_log = structlog.get_logger(__name__)
_AT_ONCE = 500
_MOST_IDS = 20_000
_MADE_BY = "callbacks"
_LATE_S = 30.0
_BUCKETS_S = (0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0, 21600.0, 86400.0)
_Key = tuple[UUID, str]
"""A message and its id at the provider."""
_WRITTEN, _UNDER_WAY = "its message is being written", "its message is under way"
"""Why reports wait that have been looked at: what they say of the address was heeded then."""


def loops(runtime: Runtime) -> list[Loop]:
    """What a worker process runs beside its dispatch."""
    took = Histogram(
        "outrider_callback_apply_seconds",
        "Time from the moment a report came to the commit that applied it; what is replayed does not count.",
        ["app"],
        buckets=_BUCKETS_S,
        registry=None,
    )
    repeated = Counter(
        "outrider_reported_ids_repeated",
        "Ids of providers under which reports of a second message came: one of both may never have been taken.",
        ["app"],
        registry=None,
    )
    label = runtime.settings.app_label
    applier = _Applier(runtime, took.labels(label), repeated.labels(label))
    return [woken("reports", applier.step, Asking(SQL.tenants_with_reports), (took, repeated))]


@dataclass(slots=True)
class Noted:
    """What is to be noted about reports once they are applied for good.

    waits  seconds that each had waited when this began; not of what is replayed
    given  the provider's id under which each came, and its message
    """

    waits: list[float] = field(default_factory=list)
    given: list[tuple[str, UUID]] = field(default_factory=list)

    def add(self, row: asyncpg.Record) -> None:
        """Take note of one that is applied."""
        if row["waited_s"] is not None:
            self.waits.append(row["waited_s"])
        if row["provider_id"]:
            self.given.append((row["provider_id"], row["message_id"]))


@dataclass(slots=True)
class _Ends:
    """What becomes of each report."""

    ids: list[UUID]
    states: list[str]
    notes: list[str]

    def add(self, event_id: UUID, state: str, note: str = "") -> None:
        self.ids.append(event_id)
        self.states.append(state)
        self.notes.append(note)


@dataclass(slots=True)
class _Follows:
    """What follows from reports beside the states of their messages."""

    listed: list[Entry] = field(default_factory=list)
    soft: list[SoftBounce] = field(default_factory=list)
    bills: dict[UUID, Bill] = field(default_factory=dict)

    def heed(self, row: asyncpg.Record, data: Mapping[str, Any], message: asyncpg.Record) -> None:
        """List an address at the first look: its message may be about to be repeated, or be the other copy of two."""
        # who was taken off the list since stays off it
        if data["suppress"] and not row["is_replayed"] and row["note"] not in {_WRITTEN, _UNDER_WAY}:
            whom, reason = (message["channel"], message["address"]), suppressions.reason_of(data["suppress"])
            self.listed.append(Entry(*whom, "all", reason, source="callback", made_by=_MADE_BY))

    def add(self, row: asyncpg.Record, data: Mapping[str, Any], message: asyncpg.Record) -> None:
        """Take note of one that is applied."""
        if data["price"]:
            self.bills[row["message_id"]] = Bill(Decimal(data["price"]), data["currency"], row["provider_id"])
        if data["is_soft"] and data["state"] in ("failed", "bounced"):
            whom = (message["channel"], message["address"])
            self.soft.append(SoftBounce(row["message_id"], *whom, row["received_at"], data["cause"], data["detail"]))

    async def write(self, uow: UnitOfWork) -> None:
        """Draw the consequences: money first, then addresses, as everybody locks them (decisions/0006)."""
        await charges.settle(uow.raw, uow.tenant, self.bills)
        await bounces.follow(uow.raw, uow.tenant, self.listed, self.soft)


class _Applier:
    def __init__(self, runtime: Runtime, took: Histogram, repeated: Counter) -> None:
        self._runtime = runtime
        self._took = took
        self._repeated = repeated
        self._given: dict[tuple[UUID, str], UUID] = {}
        """Whose reports came under an id of a provider lately, whichever worker sent the message; NIL: of several."""

    async def step(self) -> bool:
        """One bite of every tenant that has reports waiting. Tells whether there is more."""
        async with self._runtime.db.uow(Role.ENGINE) as uow:
            waiting = await SQL.tenants_with_reports.many(uow.raw)
        more = False
        for row in waiting:
            if row["waited_s"] > _LATE_S:
                _log.warning("webhook_lag", tenant=str(row["tenant_id"]), waited_s=round(row["waited_s"], 1))
            try:
                more |= await self._apply(row["tenant_id"]) >= _AT_ONCE
            except Unavailable:
                raise
            except Exception:  # noqa: BLE001 - one tenant whose reports cannot be applied must not stop everybody's
                _log.exception("webhook_unapplied", tenant=str(row["tenant_id"]))
                await self._apart(row["tenant_id"])
        return more

    async def _apply(self, tenant_id: UUID, *, only: UUID | None = None) -> int:
        """Apply what waits of a tenant, and note how long each waited until it was committed."""
        began_s = boottime_s()
        noted = Noted()
        async with self._runtime.db.uow(Role.ENGINE, tenant_id) as uow:
            count = await apply_due(uow, only=only, noted=noted)
        took_s = boottime_s() - began_s
        for waited_s in noted.waits:
            self._took.observe(max(waited_s, 0.0) + took_s)
        for provider_id, message_id in noted.given:
            self._remember(tenant_id, provider_id, message_id)
        return count

    def _remember(self, tenant_id: UUID, provider_id: str, message_id: UUID) -> None:
        """Note whose report came under an id; says once when it is a second message's [F62]."""
        key = (tenant_id, provider_id)
        owner = self._given.setdefault(key, message_id)
        if owner not in {message_id, NIL}:
            self._given[key] = NIL
            self._repeated.inc()
            _log.error(
                "reported_id_repeated", tenant=str(tenant_id), message=str(message_id), was_of=str(owner),
                provider_id=provider_id,
            )  # fmt: skip
        if len(self._given) > _MOST_IDS:
            del self._given[next(iter(self._given))]

    async def _apart(self, tenant_id: UUID) -> None:
        """Apply what waits of a tenant one by one: what cannot be applied waits by itself, and the others do not."""
        async with self._runtime.db.uow(Role.ENGINE, tenant_id) as uow:
            rows = await SQL.reports_due.many(uow.raw, tenant_id, _AT_ONCE, None)
        for row in rows:
            try:
                await self._apply(tenant_id, only=row["id"])
            except Unavailable:
                raise
            except Exception as error:  # noqa: BLE001 - its trace is in the log already, with the others of its batch
                why = f"cannot be applied: {type(error).__name__}"
                _log.error("webhook_set_aside", tenant=str(tenant_id), report=str(row["id"]), why=why)
                async with self._runtime.db.uow(Role.ENGINE, tenant_id) as uow:
                    end = "orphan" if row["is_old"] else "parked"
                    await SQL.report_ends.run(uow.raw, tenant_id, [row["id"]], [end], [why])


async def apply_due(uow: UnitOfWork, *, only: UUID | None = None, noted: Noted | None = None) -> int:
    """Apply what waits of one tenant, at most 500, or one; gives how many were looked at (engine role).

    Takes:   noted: gets what is to be noted once this is committed.
    """
    rows = await SQL.reports_due.many(uow.raw, uow.tenant, _AT_ONCE, only)
    if not rows:
        return 0
    told = [(row, orjson.loads(row["data"])) for row in rows]
    best = _best(told)
    found: dict[_Key, asyncpg.Record] = {}
    for part in _rounds(best):
        settled = await reports.settle(uow.raw, uow.tenant, part)
        found |= {
            (each.message_id, each.provider_id): settled[each.message_id] for each in part if each.message_id in settled
        }
    ends = _Ends([], [], [])
    story: list[tuple[UUID, datetime, str, dict[str, Any]]] = []
    follows = _Follows()
    for row, data in told:
        key = (row["message_id"], row["provider_id"])
        message = found.get(key)
        end = _end(row, message)
        ends.add(row["id"], *end)
        if message is None:
            continue
        follows.heed(row, data, message)
        if end[0] != "applied":
            continue
        is_this = message["is_moved"] and data["state"] == best[key].state
        story += _story(row, data, is_moved=is_this)
        follows.add(row, data, message)
        if noted is not None:
            noted.add(row)
    await events.append_many(uow.raw, uow.tenant, story)
    await follows.write(uow)
    await SQL.report_ends.run(uow.raw, uow.tenant, ends.ids, ends.states, ends.notes)
    if failpoint.ARMED:
        failpoint.hit("reports.before_commit")
    return len(rows)


def _best(told: Sequence[tuple[asyncpg.Record, dict[str, Any]]]) -> dict[_Key, Reported]:
    """The greatest report of each message under each id; what means nothing asks for nothing but the message.

    A message that was tried twice has two ids at its provider: what is told of the other one must not hide its own.
    """
    best: dict[_Key, Reported] = {}
    for row, data in told:
        message_id = row["message_id"]
        if message_id is None:
            continue
        state: State = data["state"] or "sent"
        key = (message_id, row["provider_id"])
        known = best.get(key)
        if known is None or RANKS[state] > RANKS[known.state]:
            best[key] = Reported(message_id, state, row["provider_id"], data["cause"], data["detail"])
    return best


def _rounds(best: Mapping[_Key, Reported]) -> list[list[Reported]]:
    """Reports in rounds that have each message once; nearly always there is one."""
    rounds: list[list[Reported]] = []
    seen: Counts[UUID] = Counts()
    for each in best.values():
        at = seen[each.message_id]
        seen[each.message_id] += 1
        if at == len(rounds):
            rounds.append([])
        rounds[at].append(each)
    return rounds


def _end(row: asyncpg.Record, message: asyncpg.Record | None) -> tuple[str, str]:
    """What becomes of a report, given how its message stands."""
    if row["message_id"] is None:
        return "orphan", "names no message"
    if message is None:
        return "orphan", "no such message"
    if message["was"] == "locked":
        return "parked", _WRITTEN
    if message["known"] is not None and row["provider_id"] not in {"", message["known"]}:
        return "orphan", "the message has another id at the provider"
    if message["was"] == "queued":  # told before our own commit of the outcome
        return ("orphan", "its message was never finished") if row["is_old"] else ("parked", _UNDER_WAY)
    return "applied", ""


def _story(
    row: asyncpg.Record, data: dict[str, Any], *, is_moved: bool
) -> list[tuple[UUID, datetime, str, dict[str, Any]]]:
    """The event on the message's timeline; steps on the way leave none, nor does what is applied again to no effect."""
    if is_moved and data["state"] != "sent":
        kind = data["state"]
    elif data["state"] == "sent" or row["is_replayed"]:
        return []
    else:
        kind = "reported"
    # callbacks may come hours late: what is shown by `at` is when we heard of it
    facts = {"word": row["word"], "cause": data["cause"], "detail": data["detail"], "happened_at": data.get("at")}
    moment = row["received_at"]
    return [(row["message_id"], moment, kind, {name: value for name, value in facts.items() if value})]
