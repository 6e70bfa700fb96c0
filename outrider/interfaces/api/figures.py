"""Prometheus figures of one API process: requests, durations, memory, pool; plus what a snapshot of the database says.

Owns names and labels, those of the runbooks included; never asks the database itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from outrider.data.db import Database
from outrider.domain.messages.quota import FULL_CODES, REFUSALS
from outrider.interfaces.api import money_figures
from outrider.interfaces.api.job_figures import JobReading, metrics_of
from outrider.interfaces.api.money_figures import MoneyReading
from outrider.interfaces.api.snapshot import Snapshot

_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_ERROR = 400
MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class HttpFigures:
    """Counters of this process. Every series carries the label `app`, so that the runbooks' queries work [S4-73]."""

    def __init__(self, app_label: str) -> None:
        self.registry = CollectorRegistry()
        self._app = app_label
        self._requests = Counter(
            "http_requests_total",
            "Finished requests by route template and status.",
            ["app", "method", "route", "status"],
            registry=self.registry,
        )
        self._errors = Counter(
            "http_request_errors",
            "Requests answered 4xx or 5xx.",
            ["app", "status"],
            registry=self.registry,
        )
        self._durations = Histogram(
            "http_request_duration_seconds",
            "Time from the first byte of the request to the last of the answer.",
            ["app", "method", "route"],
            buckets=_BUCKETS_S,
            registry=self.registry,
        )
        self._turned_away = Counter(
            *REFUSALS,
            ["app", "code"],
            registry=self.registry,
        )
        for code in FULL_CODES:
            self._turned_away.labels(app_label, code)
        self._series: dict[tuple[str, str, int], _Series] = {}
        ProcessCollector(registry=self.registry)

    def turned_away(self, code: str) -> None:
        """Count a request that was refused because a quota was full, told by its code; others are none."""
        if code in FULL_CODES:
            self._turned_away.labels(self._app, code).inc()

    def request(self, method: str, route: str, status: int, took_s: float) -> None:
        """Count one finished request; a connection lost before the answer counts as status 0."""
        known = method if method in _METHODS else "other"
        series = self._series.get((known, route, status))
        if series is None:  # routes are templates, so that there are few
            series = self._series[known, route, status] = _Series(
                self._requests.labels(self._app, known, route, str(status)),
                self._durations.labels(self._app, known, route),
                self._errors.labels(self._app, str(status)) if status >= _ERROR else None,
            )
        series.requests.inc()
        series.durations.observe(took_s)
        if series.errors is not None:
            series.errors.inc()


class _Series(NamedTuple):
    """The series of one kind of request, found once: to find them by their labels costs more than to count."""

    requests: Counter
    durations: Histogram
    errors: Counter | None


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"})


@dataclass(frozen=True, slots=True)
class Scrape:
    """What the database says for one scrape: the moment, messages by state, jobs (None: not read), money."""

    snapshot: Snapshot
    totals: Mapping[tuple[str, str], int]
    jobs: JobReading | None
    money: MoneyReading


class _Gauges:
    """The gauges of one scrape."""

    def __init__(self, app_label: str, db: Database, scrape: Scrape) -> None:
        self._app = app_label
        self._db = db
        self._snapshot = scrape.snapshot
        self._totals = scrape.totals
        self._jobs = scrape.jobs
        self._money = scrape.money

    def collect(self) -> Iterable[Metric]:
        yield from self._pool()
        yield self._gauge("outrider_database_up", "1 when the database answered this scrape.", self._snapshot.is_up)
        if self._snapshot.is_up:
            yield from self._queue()
            yield self._messages()
            yield from self._quota()
            if self._jobs is not None:
                yield from metrics_of(self._app, self._jobs)
            yield from money_figures.metrics_of(self._app, self._money)
            yield from self._workers()
            paused = len(self._snapshot.switches)
            yield self._gauge("outrider_switches_paused", "Scopes that are paused.", paused)
            yield self._circuits()
            yield self._gauge("outrider_maintenance", "1 while maintenance is on.", self._snapshot.is_in_maintenance)

    def _gauge(self, name: str, text: str, value: float) -> Metric:
        family = GaugeMetricFamily(name, text, labels=["app"])
        family.add_metric([self._app], float(value))
        return family

    def _circuits(self) -> Metric:
        family = GaugeMetricFamily(
            "outrider_circuits",
            "Connections that cannot be reached (open) or are tried again.",
            labels=["app", "state"],
        )
        for state in ("open", "half_open"):
            count = sum(each.state == state for each in self._snapshot.circuits)
            family.add_metric([self._app, state], count)
        return family

    def _pool(self) -> Iterable[Metric]:
        size, available = self._db.pool_size, self._db.available()
        yield self._gauge("email_dashboard_db_pool_size", "Database connections of this process.", size)
        yield self._gauge("email_dashboard_db_pool_available", "Connections that are free now.", available)
        family = GaugeMetricFamily("db_connection_pool", "Database connections by use.", labels=["app", "state"])
        family.add_metric([self._app, "available"], available)
        family.add_metric([self._app, "in_use"], size - available)
        yield family

    def _queue(self) -> Iterable[Metric]:
        size = GaugeMetricFamily(
            "queue_size", "Open messages per channel and open jobs per queue.", labels=["app", "queue"]
        )
        depth = GaugeMetricFamily(
            "outrider_queue_depth", "Open messages by channel and state.", labels=["app", "channel", "state"]
        )
        age = GaugeMetricFamily(
            "outrider_queue_oldest_age_seconds",
            "How long the oldest message of a channel and state has been due.",
            labels=["app", "channel", "state"],
        )
        totals: dict[str, int] = {}
        for row in self._snapshot.queue:
            totals[row.channel] = totals.get(row.channel, 0) + row.depth
            depth.add_metric([self._app, row.channel, row.state], row.depth)
            age.add_metric([self._app, row.channel, row.state], row.oldest_age_s)
        for waiting in self._jobs.depths if self._jobs else ():
            totals[waiting.queue.name] = totals.get(waiting.queue.name, 0) + waiting.open_count
        for name, total in totals.items():
            size.add_metric([self._app, name], total)
        yield from (size, depth, age)

    def _messages(self) -> Metric:
        family = GaugeMetricFamily(
            "outrider_messages",
            "Messages that were accepted and that reached each end state; sent means handed over to the provider.",
            labels=["app", "channel", "state"],
        )
        for (channel, state), count in sorted(self._totals.items()):
            family.add_metric([self._app, channel, state], count)
        return family

    def _quota(self) -> Iterable[Metric]:
        fill = self._snapshot.quota
        if fill is None:
            return
        count = GaugeMetricFamily(
            "outrider_open_messages",
            "Messages that are waiting, by class, as the quota counts them.",
            labels=["app", "class"],
        )
        most = GaugeMetricFamily(
            "outrider_open_messages_most",
            "How many messages of all classes may be waiting for one more of a class to be taken.",
            labels=["app", "class"],
        )
        for name, here, bound in (
            ("transactional", fill.transactional, fill.most),
            ("bulk", fill.bulk, fill.bulk_most),
        ):
            count.add_metric([self._app, name], here)
            most.add_metric([self._app, name], bound)
        yield from (count, most)
        yield self._gauge(
            "outrider_open_messages_fill_ratio", "The share of the installation's quota that is filled.", fill.ratio
        )

    def _workers(self) -> Iterable[Metric]:
        silent = GaugeMetricFamily(
            "outrider_worker_heartbeat_age_seconds",
            "How long a process has been silent, by the database's clock.",
            labels=["app", "worker", "role"],
        )
        loops = GaugeMetricFamily(
            "outrider_loop_heartbeat_age_seconds",
            "How long ago a loop of a process last ran, as of its last heartbeat.",
            labels=["app", "worker", "loop"],
        )
        for worker in self._snapshot.workers:
            silent.add_metric([self._app, str(worker.process.id), worker.process.role], worker.silent_s)
            for name, age_s in worker.loops.items():
                loops.add_metric([self._app, str(worker.process.id), name], age_s + worker.silent_s)
        yield from (silent, loops)


def exposition(figures: HttpFigures, app_label: str, db: Database, scrape: Scrape) -> bytes:
    """Everything in the text format of Prometheus."""
    momentary = CollectorRegistry()
    momentary.register(_Gauges(app_label, db, scrape))
    return generate_latest(figures.registry) + generate_latest(momentary)
