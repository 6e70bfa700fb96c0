"""The installation's own schedules: those that job types bring with them, registered when a scheduler starts."""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from outrider.base.ids import NIL
from outrider.contracts.actor import Actor
from outrider.contracts.jobs import JobType
from outrider.data.db import UnitOfWork
from outrider.domain.audit.append import append
from outrider.domain.schedules import plan, read
from outrider.domain.schedules.cron import parse
from outrider.domain.schedules.rows import SQL

_ACTOR = Actor("system", "scheduler")


async def register(uow: UnitOfWork, types: Mapping[str, JobType]) -> list[str]:
    """Make the schedules of job types that are not there yet; what people changed about one stays as they left it.

    Takes:   uow  of the engine role and tenant NIL
    Gives:   the names of those that were made; idempotent, several schedulers may start at once.
    """
    made: list[str] = []
    is_standing = True
    now = await SQL.clock.value(uow.raw)
    for kind in types.values():
        standing = kind.standing
        if standing is None:
            continue
        row = await SQL.schedule_add.one(
            uow.raw, NIL, kind.key.replace("_", "-"), kind.key, orjson.dumps(dict(standing.arguments)).decode(),
            kind.priority, parse(standing.cron).text, standing.timezone, standing.misfire, standing.grace_s,
            standing.jitter_s, None, None, is_standing, now, None, None, 0, "", _ACTOR.name,
        )  # fmt: skip
        if row is None:
            continue
        schedule = await read.locked(uow, row["id"])
        following = plan.plan(schedule, after=now)
        await SQL.schedule_plan.run(uow.raw, NIL, schedule.id, *following.columns())
        details = {"name": schedule.name, "cron": schedule.cron, "timezone": schedule.timezone}
        await append(uow, _ACTOR, action="schedule.create", target=("schedule", str(schedule.id)), details=details)
        made.append(schedule.name)
    return made
