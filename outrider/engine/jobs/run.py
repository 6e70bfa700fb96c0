"""The scheduler process: runs jobs until told to stop, watches over those of others, and leaves nothing half-done.

Owns start and end; what fires schedules is handed in as loops. Every part's work is its own file.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import structlog
from prometheus_client import CollectorRegistry, Gauge, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy.exc import DBAPIError

from outrider import __version__
from outrider.base.clock import boottime_s
from outrider.base.errors import Unavailable
from outrider.data.db import Role
from outrider.data.listen import listen
from outrider.data.runtime import Runtime
from outrider.domain.jobs import running
from outrider.domain.messages import workers
from outrider.engine.health import HealthServer
from outrider.engine.jobs import reap
from outrider.engine.jobs.claims import Claims
from outrider.engine.jobs.execution import Executor
from outrider.engine.jobs.pump import Pump
from outrider.engine.loop import Loop, Pulses, finish, pause, repeat, show
from outrider.engine.stalls import Stalls

_log = structlog.get_logger(__name__)
_POLL_S = 1.0
_TOUCH_S = 25.0
"""Longest time without a heartbeat that arrived: others take the jobs over after stats.SILENT_S."""
_HAND_BACK_S = 8.0
"""The last part of the grace, for what did not end by itself: work that ignores its end for 5 s is recorded yet."""
_LAST_ROUND_S = 2.0
_LAST_WORDS_S = 3.0
_CLOSE_S = 4.0
AFTER_GRACE_S = _LAST_ROUND_S + _LAST_WORDS_S + _CLOSE_S
"""What the end may take once nothing runs: below the time after which the process ends itself hard."""


@dataclass(frozen=True, slots=True)
class SchedulerOptions:
    """What distinguishes one scheduler from another. `health_port` None: no health endpoint."""

    worker_id: UUID = field(default_factory=uuid4)
    health_host: str = "127.0.0.1"
    health_port: int | None = 3042


class Scheduler:
    """One scheduler process."""

    def __init__(self, runtime: Runtime, options: SchedulerOptions, loops: Sequence[Loop]) -> None:
        self.runtime = runtime
        self.options = options
        self.pulses = Pulses()
        self.types = runtime.jobs.types
        self.executor = Executor(runtime, self.types, options.worker_id)
        settings = runtime.settings
        url = settings.direct_database_url.get_secret_value() if settings.direct_database_url else runtime.database_url
        self.claims = Claims(url, worker_id=str(options.worker_id), execute=self._execute, released=self._released)
        self.pump = Pump(runtime, self.claims)
        self.wake = asyncio.Event()
        self._freed = asyncio.Event()
        self.state = "running"
        self.health_url: str | None = None
        self.registry = CollectorRegistry()
        self.stalls = Stalls(settings.app_label)
        self.registry.register(self.stalls)
        self.is_clean = True
        self._me = running.Self(
            options.worker_id, socket.gethostname(), reap.place(), os.getpid(), tuple(sorted(self.types))
        )
        self._loop = asyncio.get_running_loop()
        self._touched_at = boottime_s()
        self._beaten_at = 0.0
        self.loops = [*self._own_loops(), *reap.upkeep(runtime), *loops]
        show(self.loops, self.registry)
        self._gauges()

    def _own_loops(self) -> list[Loop]:
        return [
            Loop("job_pump", _POLL_S, self.pump.round, wake=self.wake),
            Loop("job_heartbeat", _POLL_S, self._beat_jobs),
            Loop("heartbeat", self.runtime.settings.heartbeat_s, self._beat),
        ]

    def _gauges(self) -> None:
        app = self.runtime.settings.app_label
        for name, text, read in (
            ("outrider_jobs_in_flight", "Runs this process holds", lambda: len(self.claims.held())),
            ("outrider_jobs_fenced", "Ends that came after the job was taken over", lambda: self.executor.fenced_count),
            ("outrider_db_pool_available", "Free database connections", self.runtime.db.available),
        ):  # fmt: skip
            Gauge(name, text, ["app"], registry=self.registry).labels(app).set_function(read)
        self.registry.register(_Figures(self, app))

    # called in threads of DBOS
    def _execute(self, run_id: str) -> None:
        try:
            asyncio.run_coroutine_threadsafe(self.executor.run(run_id), self._loop).result()
        except Exception:  # noqa: BLE001 - the loop is closed or the run was cut off: whoever lives takes it over
            _log.warning("run_left_open", run=run_id)

    def _released(self) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.wake.set)
            self._loop.call_soon_threadsafe(self._freed.set)

    async def _beat_jobs(self) -> bool:
        held = self.claims.held()
        if not held and boottime_s() - self._beaten_at < self.runtime.settings.heartbeat_s:
            return False
        began = boottime_s()
        async with self.runtime.db.uow(Role.ENGINE) as uow:
            wanted = await running.beat(uow, self._me, held, is_stopping=self.state != "running")
        self._touched_at, self._beaten_at = began, boottime_s()
        for job_id in wanted:
            self.executor.cancel(job_id)
        return False

    async def _beat(self) -> bool:
        process = workers.Process(
            self.options.worker_id, "scheduler", self._me.host, self._me.place.split()[0], self._me.pid, __version__,
            None, self.health_url,
        )  # fmt: skip
        async with self.runtime.db.uow(Role.ENGINE) as uow:
            await workers.beat(uow.raw, process, state=self.state, loops=self.pulses.ages(), stall=self.stalls.last)
        return False

    async def _keep_touch(self, ended: asyncio.Event) -> None:
        """Stop what runs before others take it over: a process that cannot reach the database must not go on."""
        while not ended.is_set():
            if boottime_s() - self._touched_at > _TOUCH_S and self.executor.by_run:
                _log.error("touch_lost", silent_s=round(boottime_s() - self._touched_at, 1))
                self.executor.lose_touch()
            await pause(ended, _POLL_S)

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
            "in_flight": len(self.claims.held()),
            "types": list(self._me.types),
        }

    async def run(self, stop: asyncio.Event, ready: Callable[[str], None]) -> None:
        """Run jobs until `stop`, then let what runs end or hand it back within the grace."""
        health = HealthServer(self.report, self.registry)
        try:
            await asyncio.to_thread(self.claims.open)
        except DBAPIError as error:
            raise Unavailable("database_unavailable", "the database is not reachable; try again") from error
        try:
            if self.options.health_port is not None:
                self.health_url = await health.start(self.options.health_host, self.options.health_port)
            with self.stalls.watching():
                await self._work(stop, ready)
        finally:
            self.pump.close()
            await health.stop()
            await self._close()

    async def _work(self, stop: asyncio.Event, ready: Callable[[str], None]) -> None:
        ended = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            await self._beat_jobs()
            tasks = {group.create_task(self._listen(ended)), group.create_task(self._keep_touch(ended))}
            tasks |= {group.create_task(repeat(loop, self.pulses, ended), name=loop.name) for loop in self.loops}
            ready(self.health_url or "")
            await stop.wait()
            self.state = "stopping"
            self.pump.is_open = False
            _log.info("scheduler_stops", in_flight=len(self.claims.held()))
            grace_s = self.runtime.settings.grace_s
            await self._drained(max(grace_s - _HAND_BACK_S, grace_s / 2))
            self.executor.hand_back()
            await self._drained(_HAND_BACK_S)
            self.state = "stopped"
            ended.set()
            await finish(tasks, _LAST_ROUND_S)  # a round may wait for a database that does not answer
            await self._last_words()

    async def _drained(self, within_s: float) -> None:
        """Wait until nothing runs here, but no longer."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while self.claims.held():
                    self._freed.clear()
                    if self.claims.held():
                        await self._freed.wait()

    async def _last_words(self) -> None:
        try:
            async with asyncio.timeout(_LAST_WORDS_S):
                async with self.runtime.db.uow(Role.ENGINE) as uow:
                    if not self.claims.held():
                        await running.leave(uow, self.options.worker_id)
                await self._beat()
        except (TimeoutError, Unavailable) as error:
            _log.warning("last_words_lost", code=getattr(error, "code", "timed_out"))

    async def _close(self) -> None:
        """Let go of DBOS; its threads may hang while the database is away, and must not keep the process.

        In a thread nobody waits for: the end of the event loop waits for those of its executor, however long.
        """
        closed = asyncio.Event()

        def close() -> None:
            try:
                self.claims.close()
            except Exception:  # noqa: BLE001 - a thread nobody waits for: logged with its trace
                _log.exception("claims_not_closed")
            with suppress(RuntimeError):  # the loop is closed: it was too late
                self._loop.call_soon_threadsafe(closed.set)

        threading.Thread(target=close, name="job-claims-end", daemon=True).start()
        with suppress(TimeoutError):
            await asyncio.wait_for(closed.wait(), _CLOSE_S)
        self.is_clean = closed.is_set() and not self.pump.is_claiming and not self.claims.held()

    async def _listen(self, stop: asyncio.Event) -> None:
        await listen(
            self.runtime.db.connect,
            {"outrider_jobs": lambda _payload: self.wake.set(), "outrider_job_cancel": self._cancel},
            self.wake.set,
            stop,
        )

    def _cancel(self, payload: str) -> None:
        try:
            self.executor.cancel(UUID(payload))
        except ValueError:
            _log.warning("cancel_not_understood")


class _Figures(Collector):
    """Ends of runs by state, what was taken over, and the heartbeat age of every loop, read when asked."""

    def __init__(self, scheduler: Scheduler, app: str) -> None:
        self._scheduler = scheduler
        self._app = app

    def collect(self) -> Iterator[Metric]:
        """One sample per state and per loop."""
        ends = CounterMetricFamily("outrider_job_runs", "Runs that ended here by state", labels=["app", "state"])
        for state, count in self._scheduler.executor.finished.items():
            ends.add_metric([self._app, state], count)
        yield ends
        ages = GaugeMetricFamily(
            "outrider_loop_heartbeat_age_seconds", "Seconds since the last good round", labels=["app", "loop"]
        )
        for name, age_s in self._scheduler.pulses.ages().items():
            ages.add_metric([self._app, name], age_s)
        yield ages


async def run(
    runtime: Runtime,
    *,
    options: SchedulerOptions,
    stop: asyncio.Event,
    ready: Callable[[str], None],
    loops: Sequence[Loop] = (),
) -> bool:
    """Run one scheduler until `stop`.

    Takes:   loops  further background loops of this process (schedules), handed in by the app
             ready  called once with the health URL
    Gives:   whether nothing of it is left; else the process must be ended hard.
    """
    scheduler = Scheduler(runtime, options, loops)
    await scheduler.run(stop, ready)
    return scheduler.is_clean
