"""The loop that asks providers what became of messages whose answer was lost.

Owns the waits: nothing is asked in the first minute, because a report may settle it by itself; nothing counts as not
taken before five, because a list may be behind. What was taken is sent; what certainly was not goes again: when every
connection says so by which it may have gone, and none of them has been changed since.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

import asyncpg
import structlog

from outrider.base.clock import boottime_s
from outrider.base.errors import Misconfigured, Refused, Unavailable
from outrider.contracts.actor import Actor
from outrider.contracts.callbacks import Finds, Lost, Reports
from outrider.contracts.gate import Lane
from outrider.contracts.provider import Transport
from outrider.data.db import Role
from outrider.data.runtime import Runtime
from outrider.domain.limits import charges, contacted
from outrider.domain.messages import events, keyed, reports, uncertain
from outrider.domain.messages.reports import Reported
from outrider.domain.messages.rows import SQL
from outrider.engine.dispatch.again import claimed_of, made_again
from outrider.engine.dispatch.senders import Senders
from outrider.engine.loop import Loop

_log = structlog.get_logger(__name__)
_EVERY_S = 30.0
_ASKED_AFTER_S = 60.0
_BELIEVED_AFTER_S = 300.0
_ROUND_S = 90.0
_LANE_S = 30.0
"""A round that takes longer looks like a dead loop."""
_AT_ONCE = 100
_SLICE = 25
_WHO = "reconciliation"
_UNTOLD = ""
"""In the place of an id: this provider does not say."""


@dataclass(slots=True)
class Told:
    """What became of messages that were asked about.

    sent: a provider has them. again: none has them, they go again. withdrawn: none has them, and their campaign was
    cancelled. undecided: the others.
    """

    sent: list[UUID] = field(default_factory=list)
    again: list[UUID] = field(default_factory=list)
    withdrawn: list[UUID] = field(default_factory=list)
    undecided: list[UUID] = field(default_factory=list)

    def add(self, more: Told) -> None:
        """Take what became of others as well."""
        self.sent += more.sent
        self.again += more.again
        self.withdrawn += more.withdrawn
        self.undecided += more.undecided


def loops(runtime: Runtime) -> list[Loop]:
    """What a worker process runs beside its dispatch."""
    return [Loop("reconcile", _EVERY_S, Reconciler(runtime).step)]


class Reconciler:
    """Asks for lost answers, tenant by tenant and sender by sender."""

    def __init__(
        self, runtime: Runtime, *, asked_after_s: float = _ASKED_AFTER_S, believed_after_s: float = _BELIEVED_AFTER_S
    ) -> None:
        self._runtime = runtime
        self._waits = (asked_after_s, believed_after_s)
        self._channels = sorted({each.channel for each in runtime.providers.values() if isinstance(each, Reports)})
        self._behind: dict[UUID, tuple[datetime, UUID]] = {}
        """The last that was asked about, of tenants that have more than a round asks about."""

    async def step(self) -> bool:
        """Ask about what is in doubt, a hundred messages of each tenant at most, the next hundred in the next round."""
        async with self._runtime.db.uow(Role.ENGINE) as uow:
            rows = await SQL.tenants_in_doubt.many(uow.raw, self._waits[0], self._channels)
        tenants = [row["tenant_id"] for row in rows]
        self._behind = {tenant_id: at for tenant_id, at in self._behind.items() if tenant_id in set(tenants)}
        random.shuffle(tenants)  # those a round has no time for are not the same each time
        ends_s = boottime_s() + _ROUND_S
        for tenant_id in tenants:
            if boottime_s() >= ends_s:
                _log.warning("reconciling_waits", tenants=len(tenants), why="no answer in time")
                break
            try:
                await self._tenant(tenant_id, ends_s=ends_s)
            except Unavailable as error:
                _log.warning("reconciling_waits", tenant=str(tenant_id), code=error.code)
            except Exception:  # noqa: BLE001 - one tenant's fault must not keep the others in doubt
                _log.exception("reconciling_failed", tenant=str(tenant_id))
        return False

    async def these(self, tenant_id: UUID, ids: Sequence[UUID], *, actor: Actor, reason: str) -> Told:
        """Ask about messages because a person wants to know, however long ago they went; audited.

        Takes:   1..100 ids. Whoever is not uncertain, is repeated under its key by itself, or goes by providers that
                 cannot be asked is undecided.
        """
        told = await self._tenant(tenant_id, ids=ids)
        decided = {*told.sent, *told.again, *told.withdrawn}
        told.undecided = [each for each in ids if each not in decided]
        async with self._runtime.db.uow(Role.ENGINE, tenant_id) as uow:
            await uncertain.note_reconciled(
                uow, actor, tenant_id, asked=len(ids), reason=reason,
                told={"sent": told.sent, "again": told.again, "withdrawn": told.withdrawn},
            )  # fmt: skip
        return told

    async def _tenant(self, tenant_id: UUID, *, ids: Sequence[UUID] | None = None, ends_s: float = math.inf) -> Told:
        """Ask about what is in doubt, or about these messages; nothing is begun after `ends_s`."""
        told = Told()
        rows, known = await self._doubtful(tenant_id, ids)
        by_lane: dict[int, list[asyncpg.Record]] = defaultdict(list)
        for row in rows:
            by_lane[row["lane_id"]].append(row)
        parts = [part[at : at + _SLICE] for part in by_lane.values() for at in range(0, len(part), _SLICE)]
        for part in parts:
            if boottime_s() >= ends_s:
                break
            try:
                async with asyncio.timeout(_LANE_S):
                    of_lane = await self._lane(tenant_id, part, known)
            except TimeoutError:
                _log.warning("reconciling_waits", tenant=str(tenant_id), why="no answer in time")
            except (Refused, Misconfigured, Unavailable) as error:
                _log.warning("reconciling_waits", tenant=str(tenant_id), code=error.code)
            else:
                told.add(of_lane)
        return told

    async def _doubtful(
        self, tenant_id: UUID, ids: Sequence[UUID] | None
    ) -> tuple[list[asyncpg.Record], dict[str, set[str]]]:
        """What is in doubt, behind what was asked about last, or these messages; and the ids that are others'."""
        named = None if ids is None else list(ids)
        behind = self._behind.pop(tenant_id, (None, None)) if named is None else (None, None)
        async with self._runtime.db.uow(Role.ENGINE, tenant_id) as uow:
            rows = await SQL.in_doubt.many(uow.raw, tenant_id, *self._waits, self._channels, named, *behind, _AT_ONCE)
            known: dict[str, set[str]] = defaultdict(set)
            for row in await SQL.known_at_provider.many(uow.raw, tenant_id, list({row["address"] for row in rows})):
                known[row["address"]].add(row["provider_id"])
        if named is None and len(rows) == _AT_ONCE:
            self._behind[tenant_id] = (rows[-1]["since"], rows[-1]["id"])
        return rows, known

    async def _lane(self, tenant_id: UUID, rows: list[asyncpg.Record], known: dict[str, set[str]]) -> Told:
        """Ask every connection of a lane's sender; one that has the message took it."""
        head = rows[0]
        lane = Lane(
            tenant_id, head["lane_id"], head["channel"], head["sender_id"], head["campaign_id"], head["message_class"]
        )
        senders = Senders(self._runtime, is_sending=False)
        try:
            lost, transports = await self._made_again(senders, lane, rows, known)
            asked = [each for each in transports if isinstance(each, Finds)]
            answers = [await each.find(lost) for each in asked] if lost else []
        finally:
            await senders.close_idle(everything=True)
        found: dict[UUID, str | None] = {}
        for each in lost:
            said = [answer.get(each.id, _UNTOLD) for answer in answers]
            taken = next((sid for sid in said if sid), None)
            # one that cannot be asked, or does not know, may be the one that took it
            if taken is not None or (said and _UNTOLD not in said and len(asked) == len(transports)):
                found[each.id] = taken
            if taken is not None:
                known[each.address].add(taken)  # nobody else's, of those that are asked about after it
        return await self._settle(tenant_id, found, {row["id"] for row in rows if row["is_old"]})

    async def _made_again(
        self, senders: Senders, lane: Lane, rows: list[asyncpg.Record], known: dict[str, set[str]]
    ) -> tuple[list[Lost], list[Transport]]:
        """The messages with their texts as they went out, and the transports by which they may have gone."""
        made, use = await made_again(self._runtime, senders, lane, [claimed_of(row, row["id"]) for row in rows])
        lost = [
            Lost(
                row["id"], row["address"], made[row["id"]].envelope_from, made[row["id"]].body, row["attempted_at"],
                frozenset(known[row["address"]]),
            )
            for row in rows
            if row["id"] in made
        ]  # fmt: skip
        return lost, [route.account.transport for route in use.routes]

    async def _settle(self, tenant_id: UUID, found: dict[UUID, str | None], old: set[UUID]) -> Told:
        """What was taken is sent; what was certainly not, and long enough ago, goes again or ends with its campaign."""
        told = Told()
        taken = [Reported(message_id, "sent", sid) for message_id, sid in found.items() if sid is not None]
        again = [message_id for message_id, sid in found.items() if sid is None and message_id in old]
        async with self._runtime.db.uow(Role.ENGINE, tenant_id) as uow:
            if taken:
                moved = await reports.settle(uow.raw, tenant_id, taken)
                for each in taken:
                    if each.message_id in moved and moved[each.message_id]["is_moved"]:
                        told.sent.append(each.message_id)
                        await events.append(uow.raw, tenant_id, each.message_id, "sent", {"marked_by": _WHO})
            if again:
                taken_now = await keyed.repeated_now(uow.raw, tenant_id, again)
                again = [each for each in again if each not in taken_now]
                why = "the provider has no such message"
                rows = await SQL.uncertain_resend.many(uow.raw, tenant_id, again, _WHO, why)
                told.again = [row["id"] for row in rows]
                told.withdrawn = await self._withdraw(uow.raw, tenant_id, again)
                if unsent := told.again + told.withdrawn:
                    await charges.release_all(uow.raw, tenant_id, unsent)
                    await contacted.release_all(uow.raw, tenant_id, unsent)
        if taken or again:
            _log.info("reconciled", tenant=str(tenant_id), sent=len(taken), again=len(again))
        return told

    @staticmethod
    async def _withdraw(raw: asyncpg.Connection, tenant_id: UUID, unsent: Sequence[UUID]) -> list[UUID]:
        """End what did not go and whose campaign was cancelled: nothing of it is sent any more."""
        rows = await SQL.uncertain_withdrawn.many(raw, tenant_id, unsent)
        withdrawn = [row["id"] for row in rows]
        why = "the provider has no such message, and its campaign is cancelled"
        rows = await SQL.uncertain_mark.many(raw, tenant_id, withdrawn, "cancelled", _WHO, why) if withdrawn else []
        return [row["id"] for row in rows]
