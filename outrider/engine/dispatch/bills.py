"""The loop that asks providers what messages really cost; the answer takes the place of what was reserved.

Owns whom to ask: every connection of a message's sender that may have taken it, none whose circuit is open, nobody
while the tenant, its channel or everything is stopped. What is charged, and when it is asked about again, is
domain/limits/charges.py.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from uuid import UUID

import asyncpg
import structlog

from outrider.base import failpoint
from outrider.base.clock import boottime_s
from outrider.base.errors import Misconfigured, Refused, Unavailable
from outrider.contracts.callbacks import Bill, Bills, BillsLater
from outrider.contracts.gate import Lane
from outrider.contracts.provider import Provider
from outrider.data.db import Role
from outrider.data.runtime import Runtime
from outrider.domain.limits import charges
from outrider.domain.limits.rows import SPENDING
from outrider.domain.messages.rows import SQL
from outrider.engine.dispatch.senders import Senders
from outrider.engine.loop import Loop

_log = structlog.get_logger(__name__)
_EVERY_S = 30.0
_ROUND_S = 20.0
_AT_ONCE = 1000


def channels(providers: Iterable[Provider]) -> frozenset[str]:
    """The channels with a provider that says only after the sending what it costs."""
    return frozenset(each.channel for each in providers if isinstance(each, BillsLater) and each.bills_later)


def loops(runtime: Runtime) -> list[Loop]:
    """What a worker process runs beside its dispatch."""
    return [Loop("bills", _EVERY_S, Biller(runtime).step)]


class Biller:
    """Asks for prices, tenant by tenant and sender by sender."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def step(self) -> bool:
        """Ask about a thousand messages of each tenant at most. Tells whether there is more."""
        if self._runtime.settings.emergency_path.exists():
            return False
        async with self._runtime.db.uow(Role.ENGINE) as uow:
            rows = await SPENDING.tenants_asking.many(uow.raw)
        more, ends_s = False, boottime_s() + _ROUND_S
        for row in rows:
            if boottime_s() >= ends_s:  # the others at once, in a round of their own: a long one looks like a dead loop
                return True
            try:
                more |= await self._tenant(row["tenant_id"])
            except Unavailable as error:
                _log.warning("billing_waits", tenant=str(row["tenant_id"]), code=error.code)
            except Exception:  # noqa: BLE001 - one tenant's fault must not keep the others from their prices
                _log.exception("billing_failed", tenant=str(row["tenant_id"]))
        return more

    async def _tenant(self, tenant_id: UUID) -> bool:
        async with self._runtime.db.uow(Role.ENGINE, tenant_id) as uow:
            due = await charges.due(uow.raw, tenant_id, most=_AT_ONCE, days=self._runtime.settings.bill_days)
            ids = list(due)
            rows = await SQL.handed_over.many(uow.raw, tenant_id, ids, min(ids), max(ids)) if ids else []
            stopped = {
                channel: await SPENDING.is_stopped.value(uow.raw, tenant_id, channel)
                for channel in {row["channel"] for row in rows}
            }
        by_sender: dict[UUID, list[asyncpg.Record]] = defaultdict(list)
        for row in rows:
            if not stopped[row["channel"]]:
                by_sender[row["sender_id"]].append(row)
        bills: dict[UUID, Bill] = {}
        for part in by_sender.values():
            try:
                bills |= await self._asked(tenant_id, part, due)
            except (Refused, Misconfigured, Unavailable) as error:
                _log.warning("billing_waits", tenant=str(tenant_id), code=error.code)
        if bills:
            async with self._runtime.db.uow(Role.ENGINE, tenant_id) as uow:
                settled = await charges.settle(uow.raw, tenant_id, bills)
                if failpoint.ARMED:
                    failpoint.hit("bills.before_commit")
            if failpoint.ARMED:
                failpoint.hit("bills.committed")
            _log.info("billed", tenant=str(tenant_id), asked=len(rows), settled=len(settled))
        return len(due) == _AT_ONCE

    async def _asked(
        self, tenant_id: UUID, rows: list[asyncpg.Record], due: Mapping[UUID, datetime]
    ) -> dict[UUID, Bill]:
        """Ask the connections of one sender; the first that has a price for a message is right."""
        head = rows[0]
        lane = Lane(
            tenant_id, head["lane_id"], head["channel"], head["sender_id"], head["campaign_id"], head["message_class"]
        )
        known = {row["provider_id"]: row["id"] for row in rows}
        bills: dict[UUID, Bill] = {}
        senders = Senders(self._runtime, is_sending=False)
        try:
            async with self._runtime.db.uow(Role.ENGINE, tenant_id) as uow:
                use = await senders.use(uow.raw, lane)
            for route in use.routes:
                sent = {sid: due[message_id] for sid, message_id in known.items() if message_id not in bills}
                transport = route.account.transport
                if not sent or route.left < 1 or not isinstance(transport, Bills):
                    continue
                told = await transport.bills(sent)
                bills |= {known[sid]: replace(bill, provider_id=sid) for sid, bill in told.items() if sid in known}
        finally:
            await senders.close_idle(everything=True)
        return bills
