"""Drills about schedules: whoever fires, however often it is started and whatever clocks say, each planned time once.

Each gives what is wrong afterwards; nothing when the run was clean. The clock of schedules is the database's: the
drills let it leap (`timetable.leap`), the schedulers are real processes.
"""

from __future__ import annotations

import shutil
import zoneinfo
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from outrider.base.ids import DEFAULT_TENANT
from outrider.data.db import Role
from outrider.domain.schedules import draft
from outrider.domain.schedules.views import NewSchedule
from tests.kit import marking
from tests.kit.drill import OPERATOR, Drill
from tests.kit.processes import Process, until
from tests.kit.scenarios.jobs import prepare
from tests.kit.shifted import shifted
from tests.kit.timetable import leap

MINUTE = timedelta(minutes=1)
BEGIN = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
_RUNS = f"SELECT {{}} FROM schedule_runs WHERE trigger = 'scheduled' AND tenant_id = '{DEFAULT_TENANT}'"
"""Of the drill's own schedules; the installation's are there as well."""


async def make(drill: Drill, folder: Path, count: int, cron: str = "* * * * *", **more: Any) -> list[UUID]:
    """Schedules of jobs that leave marks."""
    made = []
    for number in range(count):
        given = {"timezone": "UTC", "misfire": "once", "jitter_s": 0, **more}
        new = NewSchedule(
            name=f"s{number}",
            job_type="marking",
            cron=cron,
            arguments={"number": number, "folder": str(folder)},
            **given,
        )
        async with drill.db.uow(Role.APP, DEFAULT_TENANT) as uow:
            view = await draft.create(uow, {"marking": marking.JOB}, OPERATOR, new, least_gap_minutes=1)
        made.append(view.id)
    return made


async def started_twice(drill: Drill, *, schedules: int, minutes: int) -> list[str]:
    """F21: three schedulers fire, settle and sweep at once; one stands still while it fires, one is killed."""
    folder = await prepare(drill)
    leap(drill.url, BEGIN - MINUTE / 2)
    await make(drill, folder, schedules)
    running = [await drill.scheduler() for _ in range(3)]
    for number in range(minutes):
        planned = BEGIN + number * MINUTE
        if number == 1:
            await _one_stands_still(drill, running, planned)
        elif number == 2:
            running.pop().kill()
            await drill.start("scheduler", at="schedules.fired:1:kill").ready()
        leap(drill.url, planned + timedelta(seconds=1))
        await _fired(drill, planned, schedules)
        await _done(drill)
    return await doubled(drill) + await _complete(drill, schedules * minutes)


async def clocks_are_wrong(drill: Drill, *, schedules: int) -> list[str]:
    """F79: one scheduler's machine is two hours ahead, one two hours behind; then the database's clock leaps, too."""
    folder = await prepare(drill)
    leap(drill.url, BEGIN - 4 * MINUTE)  # so long before the first planned time that the drill is never overtaken by it
    await make(drill, folder, schedules, "*/5 * * * *", misfire="all")
    right = drill.command
    running: list[Process] = []
    for seconds in (7200, -7200):
        drill.command = shifted(right, seconds)
        running.append(await drill.scheduler())
    drill.command = right
    await _rounds(drill)
    found = [f"fired early: {row[0]}" for row in await drill.rows(_RUNS.format("planned_at"))]
    leap(drill.url, BEGIN + timedelta(seconds=1))
    await _fired(drill, BEGIN, schedules)
    await _done(drill)
    # two hours forwards: 24 planned times each, of which one is made up for
    leap(drill.url, BEGIN + timedelta(hours=2, seconds=1))
    await _fired(drill, BEGIN + timedelta(hours=2), schedules)
    await _done(drill)
    jobs = await drill.value("SELECT count(*) FROM jobs WHERE type = 'marking'")
    if jobs != 2 * schedules:
        found.append(f"{jobs} jobs for {schedules} schedules: a leap let a pile run")
    # and back again: what ran does not run again
    leap(drill.url, BEGIN + timedelta(minutes=30, seconds=1))
    await _rounds(drill)
    leap(drill.url, BEGIN + timedelta(minutes=60, seconds=1))
    await _rounds(drill)
    again = await drill.value("SELECT count(*) FROM jobs WHERE type = 'marking'")
    if again != jobs:
        found.append(f"{again - jobs} jobs after the clock went back")
    found += [f"{each.name} ended: {each.said()}" for each in running if not each.lives()]
    return found + await doubled(drill)


async def rules_change(drill: Drill) -> list[str]:
    """F81: new rules of the time zones are installed while a scheduler runs, later taken back: the local time holds."""
    folder = await prepare(drill)
    place = drill.folder / "zones"
    _install(place, "2025b", "Africa/Cairo")
    leap(drill.url, datetime(2026, 11, 20, 12, 0, tzinfo=UTC))
    (schedule_id,) = await make(drill, folder, 1, "0 2 * * *", timezone="Africa/Cairo")
    await drill.execute("UPDATE schedules SET rules = '2025b'")
    drill.command = drill.command.with_(PYTHONTZPATH=str(place))
    await drill.scheduler()
    found = await _planned(drill, schedule_id, datetime(2026, 11, 21, 0, 0, tzinfo=UTC))
    _install(place, "2099a", "Asia/Karachi")  # Cairo at UTC+5
    found += await _planned(drill, schedule_id, datetime(2026, 11, 20, 21, 0, tzinfo=UTC))
    leap(drill.url, datetime(2026, 11, 20, 21, 0, 1, tzinfo=UTC))
    await _fired(drill, datetime(2026, 11, 20, 21, 0, tzinfo=UTC), 1)
    await _done(drill)
    _install(place, "2099b", "Africa/Cairo")  # taken back: 02:00 of this day comes again, and has been
    found += await _planned(drill, schedule_id, datetime(2026, 11, 22, 0, 0, tzinfo=UTC))
    leap(drill.url, datetime(2026, 11, 22, 0, 0, 1, tzinfo=UTC))
    await _fired(drill, datetime(2026, 11, 22, 0, 0, tzinfo=UTC), 1)
    await _done(drill)
    return found + await doubled(drill) + await _complete(drill, 2)


async def doubled(drill: Drill) -> list[str]:
    """Planned times with more than one run or job, and schedules of which two jobs ran at the same time."""
    found = [
        f"{count} {what} for {planned_at}"
        for what in ("schedule_runs", "jobs")
        for planned_at, count in await drill.rows(
            f"SELECT planned_at, count(*) FROM {what} WHERE schedule_id IS NOT NULL "
            "GROUP BY schedule_id, planned_at HAVING count(*) > 1"
        )
    ]
    beside = await drill.rows(
        "SELECT a.schedule_id FROM jobs a JOIN jobs b ON b.schedule_id = a.schedule_id AND b.id > a.id "
        "AND b.started_at < a.finished_at"
    )
    return found + [f"two runs of {row[0]} at once" for row in beside]


async def _one_stands_still(drill: Drill, running: list[Process], planned: datetime) -> None:
    """A leader that stops between deciding and committing for longer than its transaction may last, then goes on."""
    for each in running:
        each.freeze()
    victim = await drill.scheduler(at="schedules.fired:1:stop", statement_timeout_s="1")
    leap(drill.url, planned + timedelta(seconds=1))
    await victim.stands_still(what="the leader stands still while it fires")
    for each in running:
        each.thaw()
    await until(lambda: _is_fired(drill), what="the others fire")
    victim.thaw()
    await until(
        lambda: "database_unavailable" in victim.log.read_text(), what="the leader notices that its claim is void"
    )


async def _is_fired(drill: Drill) -> bool:
    return not await drill.value("SELECT EXISTS (SELECT FROM schedules WHERE due_at <= outrider_now())")


async def _fired(drill: Drill, planned: datetime, count: int) -> None:
    await until(
        lambda: drill.value(_RUNS.format("count(*) = $2") + " AND planned_at = $1", planned, count),
        what=f"{planned} is decided about",
    )


async def _done(drill: Drill) -> None:
    """Wait until no run is open."""
    await until(
        lambda: drill.value(_RUNS.format("count(*) = 0") + " AND state IN ('waiting', 'enqueued')"),
        what="every run has ended",
    )


async def _rounds(drill: Drill) -> None:
    """Wait until every scheduler has gone through its loops after now, by what it says itself."""
    since = await drill.value("SELECT clock_timestamp()")
    await until(
        lambda: drill.value(
            "SELECT bool_and(heartbeat_at - (loops ->> 'schedules')::float8 * interval '1 second' > $1) "
            "FROM workers WHERE role = 'scheduler' AND state = 'running'",
            since,
        ),
        what="every scheduler has looked for due schedules",
    )


async def _complete(drill: Drill, count: int) -> list[str]:
    """Every planned time ran, none is missing, none was skipped."""
    states = await drill.rows(_RUNS.format("state, count(*)") + " GROUP BY state")
    if [tuple(row) for row in states] == [("succeeded", count)]:
        return []
    return [f"{count} runs should have succeeded, there are {[tuple(row) for row in states]}"]


async def _planned(drill: Drill, schedule_id: UUID, expected: datetime) -> list[str]:
    """Wait for the next planned time."""
    await until(
        lambda: drill.value("SELECT next_at = $2 FROM schedules WHERE id = $1", schedule_id, expected),
        what=f"the next run is planned for {expected}",
        bound_s=300.0,
    )
    return []


def _install(place: Path, version: str, cairo: str) -> None:
    """Put time zone rules where a process looks for them, the version last; Cairo follows the rules of `cairo`."""
    source = next(Path(folder) for folder in zoneinfo.TZPATH if (Path(folder) / "UTC").is_file())
    for name, rules in (("UTC", "UTC"), ("Africa/Cairo", cairo)):
        target = place / name
        target.parent.mkdir(parents=True, exist_ok=True)
        draft_of = target.with_name(f".{target.name}.new")
        shutil.copyfile(source / rules, draft_of)
        draft_of.rename(target)
    (place / "tzdata.zi").write_text(f"# version {version}\n")
