"""What is spent of budgets, and what waits at which gate, as metrics.

Owns the memory of the last reading, and how many tenants are shown: those that used the most of a limit.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass

import structlog
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from outrider.base.errors import OutriderError
from outrider.data.db import Database, Role
from outrider.domain.limits import budgets
from outrider.domain.limits.budgets import Used
from outrider.domain.messages import holds
from outrider.domain.messages.holds import Held

MOST_TENANTS = 100
_KEPT_S = 15.0
_PATIENCE_S = 5.0
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class MoneyReading:
    """Budgets of the tenants that used most of them, and messages that gates hold."""

    used: tuple[Used, ...] = ()
    held: tuple[Held, ...] = ()


class MoneyFigures:
    """Readings of one process, at most a quarter of a minute old; the last one while the database is away."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._lock = asyncio.Lock()
        self._last = MoneyReading()
        self._read_s = float("-inf")

    async def now(self) -> MoneyReading:
        """The last reading."""
        async with self._lock:
            if time.monotonic() - self._read_s >= _KEPT_S:
                try:
                    async with asyncio.timeout(_PATIENCE_S), self._db.uow(Role.ENGINE) as uow:
                        used = await budgets.most_used(uow, MOST_TENANTS)
                        self._last = MoneyReading(tuple(used), tuple(await holds.by_gate(uow)))
                except (OutriderError, TimeoutError) as error:
                    _log.warning("money_figures_failed", error=type(error).__name__)
                self._read_s = time.monotonic()
            return self._last


def metrics_of(app_label: str, reading: MoneyReading) -> Iterable[Metric]:
    """The gauges of one reading."""
    labels = ["app", "tenant", "period"]
    spent = GaugeMetricFamily(
        "outrider_budget_spent_cents",
        f"What a tenant spent in its day and month; the {MOST_TENANTS} tenants that used the most of a limit.",
        labels=labels,
    )
    limit = GaugeMetricFamily("outrider_budget_limit_cents", "The limit it must stay within.", labels=labels)
    percent = GaugeMetricFamily("outrider_budget_used_percent", "How much of the limit is used.", labels=labels)
    for each in reading.used:
        values = [app_label, str(each.tenant_id), each.period]
        spent.add_metric(values, each.spent_cents)
        if each.limit_cents is not None:
            limit.add_metric(values, each.limit_cents)
            percent.add_metric(values, each.percent)
    held = GaugeMetricFamily(
        "outrider_held_messages",
        "Messages that a gate holds, by channel; gate=budget: for lack of money.",
        labels=["app", "channel", "gate"],
    )
    for row in reading.held:
        held.add_metric([app_label, row.channel, row.gate], row.count)
    yield from (spent, limit, percent, held)
