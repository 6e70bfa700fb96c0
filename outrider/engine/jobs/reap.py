"""Taking over: runs of dead, silent or forgetful processes go on elsewhere; what took too long has failed; retention.

These loops need no DBOS: every process with background loops may have them, so that a deadline holds even while no
scheduler lives. Of several, one acts at a time.
"""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

import structlog

from outrider.base import failpoint
from outrider.base.clock import boottime_s
from outrider.data.db import Role
from outrider.data.runtime import Runtime
from outrider.domain.jobs import prune, running, stats
from outrider.engine.loop import Loop

_log = structlog.get_logger(__name__)
_REAP_S = 5.0
_WATCH_S = 15.0
_SWEEP_S = 15.0
_HOUR_S = 3600.0
_BITE = 5000
_GAP_S = 3 * _REAP_S
_CONTACT_S = 10.0
"""After the database was away everybody's heartbeat is old: nobody is judged before this much contact with it.
The same goes when its clock was set."""
_LEAP_S = stats.SILENT_S - 4.0
"""Less cannot make a process that lives look dead."""


def place() -> str:
    """Where a pid means a process: this boot of this machine, this namespace of pids."""
    boot = namespace = ""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        namespace = str(Path("/proc/self/ns/pid").readlink())
    return f"{boot} {namespace}" if boot and namespace else f"unknown {os.urandom(8).hex()}"


def loops(runtime: Runtime) -> list[Loop]:
    """What any long-running process may do for jobs."""
    return [Loop("job_reaper", _REAP_S, Reaper(runtime).step)]


def upkeep(runtime: Runtime) -> list[Loop]:
    """What a scheduler does beside running jobs."""
    reaper = Reaper(runtime)
    return [
        Loop("job_reaper", _REAP_S, reaper.step),
        Loop("job_watch", _WATCH_S, reaper.watch),
        Loop("job_runs", _SWEEP_S, reaper.sweep),
        Loop("job_retention", _HOUR_S, reaper.retention),
    ]


class Reaper:
    """One process's watch over all others."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._settings = runtime.settings
        self._place = place()
        self._contact_since: float | None = None
        self._contact_at = 0.0
        self._clock: datetime | None = None
        self._stranded: set[tuple[str, str]] = set()
        self.taken_over: dict[str, int] = {}

    async def step(self) -> bool:
        """Take over what is lost, once contact with the database has lasted a while."""
        async with self._runtime.db.uow(Role.ENGINE) as uow:
            here = await running.neighbours(uow, self._place)
            if dead := [identifier for identifier, pid in here.items() if not _lives(pid)]:
                await running.declare_dead(uow, dead)
            clock = await running.clock(uow)
        now = boottime_s()
        leapt_s = self._leapt_s(clock, now)
        if leapt_s > 0:
            async with self._runtime.db.uow(Role.ENGINE) as uow:
                await running.put_off(uow, clock - timedelta(seconds=leapt_s), leapt_s)
        if self._contact_since is None or now - self._contact_at > _GAP_S or leapt_s:
            self._contact_since = now
        self._contact_at, self._clock = now, clock
        if now - self._contact_since < _CONTACT_S:
            return False
        async with self._runtime.db.uow(Role.ENGINE) as uow:
            done = await running.take_over(uow)
            if failpoint.ARMED and done:
                failpoint.hit("reap.taken")
        if failpoint.ARMED and done:
            failpoint.hit("reap.committed")
        for kind, count in done.items():
            self.taken_over[kind] = self.taken_over.get(kind, 0) + count
            _log.warning("jobs_taken_over", kind=kind, count=count)
        return False

    def _leapt_s(self, clock: datetime, now: float) -> float:
        """By how much the database's clock was set since the last look: every heartbeat is off until it is repeated."""
        if self._clock is None:
            return 0.0
        leapt_s = (clock - self._clock).total_seconds() - (now - self._contact_at)
        if abs(leapt_s) <= _LEAP_S:
            return 0.0
        _log.warning("database_clock_leapt", seconds=round(leapt_s, 1))
        return leapt_s

    async def watch(self) -> bool:
        """Write to the log, once each, which jobs no live worker can run."""
        async with self._runtime.db.uow(Role.ENGINE) as uow:
            found = await stats.stranded(uow)
        for each in found:
            if (each.queue, each.type) not in self._stranded:
                _log.error("jobs_stranded", queue=each.queue, type=each.type, count=each.count, cause=each.cause)
        self._stranded = {(each.queue, each.type) for each in found}
        return False

    async def sweep(self) -> bool:
        """Forget ended runs."""
        async with self._runtime.db.uow(Role.ENGINE) as uow:
            return await prune.sweep_runs(uow, _BITE) >= _BITE

    async def retention(self) -> bool:
        """Forget jobs that ended long ago."""
        keep = self._settings
        async with self._runtime.db.uow(Role.ENGINE) as uow:
            gone = await prune.prune(
                uow,
                keep_days=keep.keep_jobs_days,
                keep_failed_days=keep.keep_failed_jobs_days,
                keep_workers_days=keep.keep_workers_days,
                bite=_BITE,
            )
        if gone:
            _log.info("retention", table="jobs", dropped=gone)
        return gone >= _BITE


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
