"""Figures of jobs and their queues over all tenants, read at most every few seconds: for metrics and statistics.

Owns the memory of the last reading and the names of the metrics; aggregates only, never a job.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import structlog
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from outrider.base.clock import utc_now
from outrider.base.errors import OutriderError, Unavailable
from outrider.data.db import Database, Role
from outrider.domain.jobs import stats
from outrider.domain.jobs.stats import Depth, Stranded, Worker
from outrider.domain.schedules import watch

_log = structlog.get_logger(__name__)
_KEPT_S = 2.0
_PATIENCE_S = 3.0


@dataclass(frozen=True, slots=True)
class JobReading:
    """One reading: what every queue holds, what no worker can run, and which processes run jobs."""

    read_at: datetime
    depths: tuple[Depth, ...]
    stranded: tuple[Stranded, ...]
    workers: tuple[Worker, ...]
    schedules: watch.Figures

    def alive(self) -> list[Worker]:
        """Processes that run jobs now."""
        return [worker for worker in self.workers if worker.is_alive]

    def total(self, state: str) -> int:
        """Jobs of all queues in a state; of an end state those of the last 24 hours."""
        return sum(depth.counts[state] for depth in self.depths)


class JobFigures:
    """Readings of one process, shared by whoever asks at the same time."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._lock = asyncio.Lock()
        self._last: JobReading | None = None
        self._read_s = float("-inf")

    async def now(self) -> JobReading | None:
        """The last reading, at most two seconds old; None while the database is away."""
        async with self._lock:
            if time.monotonic() - self._read_s >= _KEPT_S:
                self._last = await self._read()
                self._read_s = time.monotonic()
            return self._last

    async def needed(self) -> JobReading:
        """As `now`, for who cannot do without. Raises Unavailable."""
        reading = await self.now()
        if reading is None:
            raise Unavailable("database_unavailable", "the database is not reachable; try again")
        return reading

    async def _read(self) -> JobReading | None:
        try:
            async with asyncio.timeout(_PATIENCE_S), self._db.uow(Role.ENGINE) as uow:
                return JobReading(
                    utc_now(),
                    tuple(await stats.figures(uow)),
                    tuple(await stats.stranded(uow)),
                    tuple(await stats.workers(uow)),
                    await watch.figures(uow),
                )
        except (OutriderError, TimeoutError) as error:
            _log.warning("job_figures_failed", error=type(error).__name__)
            return None


def metrics_of(app_label: str, reading: JobReading) -> Iterable[Metric]:
    """The gauges of one reading; ended jobs are those of the last 24 hours."""
    yield from _queues(app_label, reading)
    stranded = GaugeMetricFamily(
        "outrider_jobs_stranded",
        "Jobs that have waited for 30 s although no live process can run them.",
        labels=["app", "queue", "type"],
    )
    for each in reading.stranded:
        stranded.add_metric([app_label, each.queue, each.type], each.count)
    alive = GaugeMetricFamily("outrider_job_workers", "Live processes that run jobs.", labels=["app"])
    alive.add_metric([app_label], len(reading.alive()))
    silent = GaugeMetricFamily(
        "outrider_job_worker_heartbeat_age_seconds",
        "How long a process that runs jobs has been silent, by the database's clock.",
        labels=["app", "worker"],
    )
    for worker in reading.workers:
        silent.add_metric([app_label, str(worker.id)], worker.silent_s)
    yield from (stranded, alive, silent)
    yield from _schedules(app_label, reading)


def _schedules(app_label: str, reading: JobReading) -> Iterable[Metric]:
    figures = reading.schedules
    for name, text, value in (
        ("outrider_schedules", "Schedules there are.", figures.schedule_count),
        ("outrider_schedules_paused", "Schedules that are paused.", figures.paused_count),
        ("outrider_schedules_overdue", "Schedules that should have fired 45 s ago and did not.", figures.overdue_count),
        ("outrider_schedules_in_trouble", "Schedules that go on with a problem.", figures.problem_count),
        (
            "outrider_schedule_runs_missed",
            "Planned times that nobody ran and nobody made up for.",
            figures.missed_count,
        ),
    ):
        family = GaugeMetricFamily(name, text, labels=["app"])
        family.add_metric([app_label], value)
        yield family
    stopped = GaugeMetricFamily(
        "outrider_schedulers_silent",
        "Schedulers that were not heard of for 30 s and did not say goodbye.",
        labels=["app"],
    )
    stopped.add_metric([app_label], sum(1 for worker in reading.workers if not worker.is_alive))
    yield stopped


def _queues(app_label: str, reading: JobReading) -> Iterable[Metric]:
    jobs = GaugeMetricFamily(
        "outrider_jobs",
        "Jobs by queue and state; of succeeded, failed and deleted ones those of the last 24 hours.",
        labels=["app", "queue", "state"],
    )
    age = GaugeMetricFamily(
        "outrider_job_queue_oldest_age_seconds",
        "How long the oldest job that is ready has waited.",
        labels=["app", "queue"],
    )
    paused = GaugeMetricFamily("outrider_job_queue_paused", "1 while a queue begins no jobs.", labels=["app", "queue"])
    closed = GaugeMetricFamily(
        "outrider_job_queue_closed", "1 while a queue takes no jobs (a drain).", labels=["app", "queue"]
    )
    for depth in reading.depths:
        name = depth.queue.name
        for state, count in depth.counts.items():
            jobs.add_metric([app_label, name, state], count)
        age.add_metric([app_label, name], depth.oldest_s)
        paused.add_metric([app_label, name], float(depth.queue.paused_at is not None))
        closed.add_metric([app_label, name], float(depth.queue.closed_at is not None))
    yield from (jobs, age, paused, closed)
