"""What is spent of budgets, how warm-ups stand, what waits at which gate, and who opts out, as metrics.

Owns the memory of the last reading, and how many tenants are shown: those that used the most of a limit, and those that
the most people left.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import structlog
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from outrider.base.errors import OutriderError
from outrider.data.db import Database, Role
from outrider.domain.campaigns import brakes
from outrider.domain.campaigns.brakes import OptOuts
from outrider.domain.limits import allowances, budgets
from outrider.domain.limits.budgets import Used
from outrider.domain.messages import holds
from outrider.domain.messages.holds import Held

MOST_TENANTS = 100
_KEPT_S = 15.0
_PATIENCE_S = 5.0
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class MoneyReading:
    """Budgets of the tenants that used most of them, messages that gates hold, warm-ups by state, and opt-outs."""

    used: tuple[Used, ...] = ()
    held: tuple[Held, ...] = ()
    warm_ups: Mapping[str, int] = field(default_factory=dict)
    optouts: tuple[OptOuts, ...] = ()


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
                        held = tuple(await holds.by_gate(uow))
                        warming = await allowances.states(uow.raw)
                        left = tuple(await brakes.optouts(uow.raw, MOST_TENANTS))
                        self._last = MoneyReading(tuple(used), held, warming, left)
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
    warming = GaugeMetricFamily(
        "outrider_warm_ups",
        "Warm-up plans of senders that run, are paused, or have used up their day.",
        labels=["app", "state"],
    )
    for state in ("running", "paused", "used_up"):
        warming.add_metric([app_label, state], reading.warm_ups.get(state, 0))
    yield from (spent, limit, percent, held, warming)
    yield from _optouts(app_label, reading.optouts)


def _optouts(app_label: str, rows: Iterable[OptOuts]) -> Iterable[Metric]:
    labels = ["app", "tenant", "channel"]
    left = GaugeMetricFamily(
        "outrider_opt_outs",
        f"People who opted out within a day, by link or word; the {MOST_TENANTS} tenants and channels with the most.",
        labels=labels,
    )
    ratio = GaugeMetricFamily(
        "outrider_opt_out_ratio", "Their share of the bulk messages that went in that day.", labels=labels
    )
    for each in rows:
        values = [app_label, str(each.tenant_id), each.channel]
        left.add_metric(values, each.left_count)
        if each.sent_count:
            ratio.add_metric(values, each.left_count / each.sent_count)
    yield from (left, ratio)
