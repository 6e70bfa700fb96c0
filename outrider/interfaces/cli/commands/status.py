"""What is paused, whether maintenance or an emergency stop is on, how deep the queue is, which processes live."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from cyclopts import App, Parameter

from outrider.data.db import Role
from outrider.domain.callbacks import look
from outrider.domain.jobs import stats as job_stats
from outrider.domain.limits import maintenance, switches
from outrider.domain.messages import fills, poison, stats, workers
from outrider.domain.schedules import watch
from outrider.domain.senders import circuits
from outrider.interfaces.cli import draining, quotas
from outrider.interfaces.cli.alarms import alarms
from outrider.interfaces.cli.doors import doors
from outrider.interfaces.cli.options import JSON, Json
from outrider.interfaces.cli.output import Answer, facts, table

APP = App(name="status", help_epilogue="Example: `outrider status`")

_JOBS: Final = ("queue", "state", "waiting", "running", "scheduled", "failed_24h", "oldest_s")
_STOPPED_SHOWN_S: Final = 60.0
_SILENT_SHOWN_S: Final = 86_400.0


@APP.default
async def status(
    *,
    all_: Annotated[bool, Parameter(name="--all", negative="", help="Also processes that ended long ago.")] = False,
    options: Json = JSON,
) -> Answer:
    """Show the state of the installation, over all tenants."""
    del options
    settings = doors().settings()
    async with doors().database() as db, db.uow(Role.ENGINE) as uow:
        paused = await switches.listed(uow)
        upkeep = await maintenance.read(uow)
        queue = await stats.queue_stats(uow.raw)
        seen = await workers.listed(uow.raw)
        depths = await job_stats.figures(uow)
        stranded = await job_stats.stranded(uow)
        runners = await job_stats.workers(uow)
        troubles = await watch.troubles(uow)
        timetable = await watch.figures(uow)
        unreached = await circuits.open_ones(uow.raw)
        unworkable = await stats.unworkable(uow.raw)
        aside = await poison.standing(uow.raw)
        repeated = await look.repeated_ids(uow.raw)
        fill = (await fills.installation(uow.raw)).fill
        fullest = await fills.fullest(uow.raw)
    data: dict[str, Any] = {
        "environment": settings.environment,
        "is_emergency": settings.emergency_path.exists(),
        "maintenance": msgspec.to_builtins(upkeep),
        "paused": [msgspec.to_builtins(each) for each in paused],
        "quota": quotas.shown(fill),
        "queue": [msgspec.to_builtins(each) for each in queue],
        "jobs": [draining.row_of(each) for each in depths],
        "stranded": [msgspec.to_builtins(each) for each in stranded],
        "job_workers": [_runner(each) for each in runners if all_ or each.silent_s < _SILENT_SHOWN_S],
        "schedules": msgspec.to_builtins(timetable),
        "alarms": [
            *quotas.alarms(fill, fullest),
            *alarms(seen, runners, stranded, troubles, unreached, unworkable, aside, repeated),
        ],
        "processes": [_process(each) for each in seen if all_ or _is_recent(each)],
    }
    head = {
        "environment": settings.environment,
        "emergency stop": str(settings.emergency_path) if data["is_emergency"] else "off",
        "maintenance": f"since {upkeep.since} by {upkeep.actor}: {upkeep.reason}" if upkeep.is_on else "off",
    }
    parts = [
        facts(head),
        *(f"ALARM: {alarm}" for alarm in data["alarms"]),
        "paused\n"
        + table(data["paused"], ("scope", "scope_id", "tenant_id", "reason", "actor", "at"), empty="nothing"),
        "quota\n" + quotas.line(fill),
        "queue\n" + table(data["queue"], ("channel", "state", "depth", "oldest_at"), empty="empty"),
        "jobs\n" + table(data["jobs"], _JOBS, empty="no queues"),
        "schedules\n" + facts({name.removesuffix("_count"): count for name, count in data["schedules"].items()}),
        "processes that run jobs\n"
        + table(data["job_workers"], ("host", "pid", "state", "silent_s", "running"), empty="none: jobs wait"),
        "processes\n"
        + table(data["processes"], ("role", "host", "pid", "state", "silent_s", "version", "health_url"), empty="none"),
    ]
    return Answer(data, "\n\n".join(parts))


def _runner(seen: job_stats.Worker) -> dict[str, Any]:
    """A process that runs jobs; what it runs are ids of jobs."""
    state = "stopping" if seen.is_stopping else "running"
    return {
        "host": seen.host,
        "pid": seen.pid,
        "state": state if seen.is_alive else "silent",
        "silent_s": round(seen.silent_s, 1),
        "running": len(seen.running),
        "types": list(seen.types),
        "started_at": seen.started_at,
    }


def _is_recent(seen: workers.Seen) -> bool:
    """Whether somebody may still wonder about a process: one that stopped in order is soon of no interest."""
    return seen.silent_s < (_STOPPED_SHOWN_S if seen.state == "stopped" else _SILENT_SHOWN_S)


def _process(seen: workers.Seen) -> dict[str, Any]:
    about = msgspec.to_builtins(seen)
    return {**about.pop("process"), **about}
