"""The loops of a scheduler process that fire schedules; several processes may run them side by side.

Owns repeating, batches and the look at the clock; what becomes of a planned time is decided in `domain.schedules.fire`.
"""

from __future__ import annotations

import structlog

from outrider.base import failpoint
from outrider.base.errors import Unavailable
from outrider.base.ids import NIL
from outrider.contracts.jobs import Jobs
from outrider.data.db import Role
from outrider.data.runtime import Runtime
from outrider.domain.schedules import fire, standing, watch, zones
from outrider.domain.schedules.rows import SQL
from outrider.engine.loop import Loop
from outrider.engine.scheduling.leaps import Leaps

_log = structlog.get_logger(__name__)
_BATCH = 100
_RULES_EVERY_S = 60.0
_WATCH_EVERY_S = 15.0


async def register(runtime: Runtime, jobs: Jobs) -> None:
    """Make sure of the installation's own schedules; once, before the loops start."""
    async with runtime.db.uow(Role.ENGINE, NIL) as uow:
        for name in await standing.register(uow, jobs.types):
            _log.info("schedule_registered", name=name)


def loops(runtime: Runtime, jobs: Jobs, *, every_s: float = 1.0) -> list[Loop]:
    """What a scheduler process runs beside its jobs."""
    firing = Firing(runtime, jobs)
    return [
        Loop("schedules", every_s, firing.fire),
        Loop("schedule_runs", every_s, firing.settle),
        Loop("timezones", _RULES_EVERY_S, firing.rules),
        Loop("schedule_watch", _WATCH_EVERY_S, firing.watch),
    ]


class Firing:
    """The rounds of these loops."""

    def __init__(self, runtime: Runtime, jobs: Jobs) -> None:
        self._runtime = runtime
        self._jobs = jobs
        self._leaps = Leaps()
        self._rules = zones.rules_version()
        self._told: set[tuple[str, str]] = set()

    async def fire(self) -> bool:
        """Fire what is due; whether more is."""
        if zones.rules_version() != self._rules:
            while await self.rules():
                pass
        async with self._runtime.db.uow(Role.ENGINE) as uow:
            leapt = self._leaps.look(await SQL.clock.value(uow.raw))
            if leapt:
                _log.warning("database_clock_leapt", seconds=round(leapt.total_seconds(), 1))
            done = await fire.fire_due(uow, self._jobs, limit=_BATCH, leap=self._leaps.last)
            if failpoint.ARMED and done:
                failpoint.hit("schedules.fired")
        if failpoint.ARMED and done:
            failpoint.hit("schedules.committed")
        return done >= _BATCH

    async def settle(self) -> bool:
        """Take over how jobs ended, then start the runs that waited for them."""
        async with self._runtime.db.uow(Role.ENGINE) as uow:
            await fire.settle(uow)
            turns = await fire.waiting(uow, limit=_BATCH)
        for tenant_id, schedule_id in turns:
            try:
                async with self._runtime.db.uow(Role.ENGINE, tenant_id) as uow:
                    await fire.start_waiting(uow, self._jobs, schedule_id)
            except Unavailable:
                raise
            except Exception:  # noqa: BLE001 - one schedule that cannot be started must not hold up the others
                _log.exception("schedule_not_started", schedule=str(schedule_id))
        return False

    async def rules(self) -> bool:
        """Load new rules of the time zones when they were installed, and plan anew what was planned with older ones."""
        version = zones.rules_version()
        if version != self._rules:
            _log.info("timezone_rules_changed", before=self._rules, now=version)
            zones.forget()
            self._rules = version
        async with self._runtime.db.uow(Role.ENGINE) as uow:
            return await fire.plan_again(uow, limit=_BATCH) >= _BATCH

    async def watch(self) -> bool:
        """Write to the log, once each, which schedules did not fire or have a problem."""
        async with self._runtime.db.uow(Role.ENGINE) as uow:
            found = await watch.troubles(uow)
        seen = {(str(each.id), each.problem or "overdue"): each for each in found}
        for key in seen.keys() - self._told:
            each = seen[key]
            _log.error("schedule_in_trouble", schedule=key[0], name=each.name, late_s=each.late_s, problem=key[1])
        self._told = set(seen)
        return False
