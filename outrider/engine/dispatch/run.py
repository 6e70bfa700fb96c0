"""The worker: puts the parts together, runs them until told to stop, and leaves nothing half-done.

Owns start and end of a worker process; every part's work is its own file.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import structlog
from prometheus_client import CollectorRegistry, Gauge, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from outrider import __version__
from outrider.base.clock import boottime_s
from outrider.base.errors import Unavailable
from outrider.data.db import Database, Role
from outrider.data.listen import listen
from outrider.data.runtime import Runtime
from outrider.domain.messages import workers
from outrider.domain.messages.rows import SQL
from outrider.engine.dispatch import repeats
from outrider.engine.dispatch.batch import Batch
from outrider.engine.dispatch.board import Board
from outrider.engine.dispatch.journal import Journal, boot_id
from outrider.engine.dispatch.lease import Renewer
from outrider.engine.dispatch.pipeline import Pipeline
from outrider.engine.dispatch.record import Recorder
from outrider.engine.dispatch.recovery import Recovery
from outrider.engine.health import HealthServer
from outrider.engine.lookout import Lookout
from outrider.engine.loop import Asking, Loop, Pulses, finish, repeat, show, woken
from outrider.engine.stalls import Stalls

_log = structlog.get_logger(__name__)
_PROMOTE_SLICE = 5000
_FEEDERS = 2
_LAST_ROUND_S = 2.0
"""So long a background loop may go on with its round when everything else of the worker has ended."""


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """What distinguishes one worker from another. `health_port` None: no health endpoint."""

    worker_id: UUID = field(default_factory=uuid4)
    health_host: str = "127.0.0.1"
    health_port: int | None = 3002


class _Figures(Collector):
    """The heartbeat age of every loop, outcomes by kind, stops by gate and what was spent, read when asked."""

    def __init__(self, pulses: Pulses, recorder: Recorder, pipeline: Pipeline, app: str) -> None:
        self._pulses = pulses
        self._recorder = recorder
        self._pipeline = pipeline
        self._app = app

    def collect(self) -> Iterator[Metric]:
        """One sample per loop and per kind."""
        outcomes = CounterMetricFamily("outrider_outcomes", "Outcomes of attempts by kind", labels=["app", "kind"])
        for kind, count in self._recorder.kind_counts.items():
            outcomes.add_metric([self._app, kind], count)
        yield outcomes
        stops = CounterMetricFamily(
            "outrider_gate_stops", "Messages that a gate held or blocked", labels=["app", "gate", "verdict"]
        )
        for (gate, verdict), count in self._pipeline.stops().items():
            stops.add_metric([self._app, gate, verdict], count)
        yield stops
        spent = CounterMetricFamily(
            "outrider_spent_micros",
            "What messages cost that went, or may have gone, in millionths of the currency, as it was reserved",
            labels=["app", "channel", "currency"],
        )
        for (channel, currency), micros in self._pipeline.spent().items():
            spent.add_metric([self._app, channel, currency], micros)
        yield spent
        failed = CounterMetricFamily(
            "outrider_batches_failed", "Batches that could not be worked on at all, by cause", labels=["app", "cause"]
        )
        for cause, count in self._pipeline.failed_counts.items():
            failed.add_metric([self._app, cause], count)
        yield failed
        ages = GaugeMetricFamily(
            "outrider_loop_heartbeat_age_seconds", "Seconds since the last good round", labels=["app", "loop"]
        )
        for name, age_s in self._pulses.ages().items():
            ages.add_metric([self._app, name], age_s)
        yield ages


class Worker:
    """One worker process."""

    def __init__(self, runtime: Runtime, options: WorkerOptions, database: Database, loops: Sequence[Loop]) -> None:
        settings = runtime.settings
        self.runtime = runtime
        self.options = options
        self.database = database
        self.pulses = Pulses()
        self.batches: dict[int, Batch] = {}
        self.board = Board(database, settings.emergency_path)
        self.journal = Journal(settings.journal_dir, options.worker_id)
        self.recorder = Recorder(database, self.journal, settings, self._closed)
        self.pipeline = Pipeline(
            runtime, database, board=self.board, journal=self.journal, recorder=self.recorder, batches=self.batches
        )
        self.recovery = Recovery(database, settings.journal_dir, settings)
        self.repeater = repeats.Repeater(runtime, database, self.board)
        self.renewer = Renewer(database, self.batches, lease_s=settings.lease_s)
        self.switch_bell = asyncio.Event()
        self.stalls = Stalls(settings.app_label)
        self.state = "running"
        self.health_url: str | None = None
        self.registry = CollectorRegistry()
        self.registry.register(self.stalls)
        self._gauges()
        self.loops = [*self._own_loops(), *loops]
        self.loops.append(Loop("lookout", settings.poll_s, Lookout(database, self.loops).step))
        show(self.loops, self.registry)

    def _gauges(self) -> None:
        app = self.runtime.settings.app_label
        for name, text, read in (
            ("outrider_in_flight", "Messages claimed and not yet recorded", self._in_flight),
            ("outrider_results_waiting", "Outcomes not yet in the database", lambda: self.recorder.waiting_count),
            ("outrider_outcomes_fenced", "Outcomes that came after their sweep", lambda: self.recorder.fenced_count),
            (
                "outrider_provider_ids_repeated", "Ids that a provider gave to a second message: look at its reports",
                lambda: self.pipeline.repeated_ids_count,
            ),
            ("outrider_recovered_uncertain", "Left uncertain by recovery", lambda: self.recovery.uncertain_count),
            ("outrider_db_pool_available", "Free database connections", self.database.available),
        ):  # fmt: skip
            Gauge(name, text, ["app"], registry=self.registry).labels(app).set_function(read)
        self.registry.register(_Figures(self.pulses, self.recorder, self.pipeline, app))

    def _in_flight(self) -> int:
        return sum(batch.unrecorded for batch in self.batches.values())

    def _closed(self, batch: Batch) -> None:
        self.pipeline.closed(batch)

    def _own_loops(self) -> list[Loop]:
        settings = self.runtime.settings
        thoughts = self.pipeline.second_thoughts
        return [
            Loop("switches", settings.switch_poll_s, self._read_switches, wake=self.switch_bell),
            Loop("second_thoughts", 0.1, thoughts.ask, wake=thoughts.bell),
            woken("promotion", self._promote, Asking(SQL.tenants_with_due)),
            Loop("recovery", settings.sweep_s, self._recover),
            Loop("lost_claims", 1.0, self.pipeline.give_back_lost),
            Loop("late_answers", 1.0, self.recorder.tell_late),
            Loop("repeats", repeats.EVERY_S, self.repeater.step),
            Loop("idle_accounts", 10.0, self.pipeline.close_idle),
            Loop("heartbeat", settings.heartbeat_s, self._beat),
        ]

    async def _read_switches(self) -> bool:
        await self.board.refresh()
        return False

    async def _recover(self) -> bool:
        more = await self.recovery.step()
        if self.recovery.handed_back_count:
            self.pipeline.wake.set()
        return more

    async def _promote(self) -> bool:
        """Make ready what has become due, tenant by tenant."""
        more = False
        async with self.database.statements() as raw:
            tenants = [row["id"] for row in await SQL.tenants_with_due.many(raw)]
        for tenant_id in tenants:
            async with self.database.transaction() as raw:
                count = await SQL.promote.run(raw, tenant_id, _PROMOTE_SLICE)
            more |= count == _PROMOTE_SLICE
            if count:
                self.pipeline.wake.set()
        return more

    async def _beat(self) -> bool:
        process = workers.Process(
            self.options.worker_id, "worker", socket.gethostname(), boot_id(), os.getpid(), __version__,
            str(self.journal.path), self.health_url,
        )  # fmt: skip
        async with self.database.transaction() as raw:
            await workers.beat(raw, process, state=self.state, loops=self.pulses.ages(), stall=self.stalls.last)
        return False

    async def _watch_file(self, stop: asyncio.Event) -> None:
        """The emergency file is looked at four times a second; needs no database [F86]."""
        while not stop.is_set():
            self.board.look_at_file()
            await asyncio.sleep(0.2)

    def report(self) -> dict[str, Any]:
        """What /health says."""
        late = self.pulses.late()
        return {
            "is_ok": not late and self.state == "running",
            "status": "late" if late else self.state,
            "worker": str(self.options.worker_id),
            "version": __version__,
            "late_loops": late,
            "loops": self.pulses.ages(),
            "in_flight": self._in_flight(),
            "results_waiting": self.recorder.waiting_count,
            "is_emergency": self.board.is_emergency,
        }

    async def run(self, stop: asyncio.Event, ready: Callable[[str], None]) -> None:
        """Work until `stop`, then finish or hand back within the grace."""
        health = HealthServer(self.report, self.registry)
        if self.options.health_port is not None:
            self.health_url = await health.start(self.options.health_host, self.options.health_port)
        self.board.look_at_file()
        self.renewer.start()
        try:
            with self.stalls.watching():
                await self._work(stop, ready)
        finally:
            # also when a part of the worker broke: outcomes not yet recorded reach the journal, for who recovers
            await finish(set(self.pipeline.tasks), 0.0)
            self.journal.close(is_settled=not self.batches)
            self.renewer.stop()
            await self.pipeline.close()
            await self.runtime.bell.quiet()
            await health.stop()

    async def _work(self, stop: asyncio.Event, ready: Callable[[str], None]) -> None:
        settings = self.runtime.settings
        ended = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch_file(ended))
            group.create_task(self._listen(ended))
            loops = {group.create_task(repeat(loop, self.pulses, ended), name=loop.name) for loop in self.loops}
            recording_ends = asyncio.Event()
            recording = group.create_task(self.recorder.run(recording_ends))
            feeders = [group.create_task(self.pipeline.feed(stop)) for _ in range(_FEEDERS)]
            ready(self.health_url or "")
            await stop.wait()
            self.state = "stopping"
            _log.info("worker_stops", in_flight=self._in_flight())
            ends_s = boottime_s() + settings.grace_s
            await asyncio.wait(feeders, timeout=settings.grace_s)
            # messages begun by what is cut are then uncertain
            await finish({*feeders, *self.pipeline.tasks}, max(0.0, ends_s - boottime_s()))
            recording_ends.set()
            await recording
            self.state = "stopped"
            await self._last_words()
            ended.set()
            # cut as a kill would cut it: a round may wait for a provider that does not answer
            await finish(loops, _LAST_ROUND_S)

    async def _last_words(self) -> None:
        try:
            await self.pipeline.give_back_lost()
            await self.recorder.tell_late()
            await self._beat()
        except Unavailable as error:
            _log.warning("last_words_lost", code=error.code)

    async def _listen(self, stop: asyncio.Event) -> None:
        def ring_all() -> None:
            self.switch_bell.set()
            self.pipeline.wake.set()

        await listen(
            self.database.connect,
            {
                "outrider_switch": lambda _payload: self.switch_bell.set(),
                "outrider_ready": self.pipeline.ready_bell,
                "outrider_suppression": self.pipeline.second_thoughts.heed,
                "outrider_circuit": self.pipeline.circuit_bell,
            },
            ring_all,
            stop,
        )


async def run(
    runtime: Runtime,
    *,
    worker: WorkerOptions,
    stop: asyncio.Event,
    ready: Callable[[str], None],
    loops: Sequence[Loop] = (),
) -> None:
    """Run one worker until `stop`.

    Takes:   loops: further background loops this process runs (fan-out, upkeep), handed in by the app
             ready: called once with the health URL when the worker has begun
    Raises:  Misconfigured when journal or health port cannot be had. A database that is away is waited for.
    """
    settings = runtime.settings
    database = Database(
        runtime.database_url,
        pool_size=settings.db_pool_size,
        wait_s=settings.statement_timeout_s,
        role=Role.ENGINE,
        statement_timeout_s=settings.statement_timeout_s,
        name=f"outrider worker {str(worker.worker_id)[:8]}",
    )
    try:
        await Worker(runtime, worker, database, loops).run(stop, ready)
    finally:
        await database.close()
