"""Firing on a real database: each planned time becomes one job, whatever the clock, other schedulers and outages do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from structlog.testing import capture_logs

from outrider.base.errors import Refused, Unavailable
from outrider.base.ids import NIL
from outrider.contracts.jobs import Jobs
from outrider.data.db import UnitOfWork
from outrider.domain.jobs.rows import SQL as JOBS
from outrider.domain.schedules import draft, fire, read, standing, trigger, watch
from outrider.domain.schedules.plan import Schedule
from outrider.domain.schedules.views import ScheduleChange
from outrider.engine.jobs.port import JobPort
from tests.kit.timetable import ACTOR, KINDS, Timetable, open_timetable

DAY = "2026-11-20"


@pytest.fixture
async def table(migrated_url: str) -> AsyncIterator[Timetable]:
    async with open_timetable(migrated_url) as found:
        yield found


def at(time: str, day: str = DAY) -> datetime:
    return datetime.fromisoformat(f"{day}T{time}+00:00")


async def states(table: Timetable, schedule_id: UUID) -> list[tuple[str, str]]:
    return [(f"{run.planned_at:%H:%M}", run.state) for run in await table.runs(schedule_id)]


async def test_a_planned_time_becomes_one_job_and_the_next_one_is_planned(table: Timetable) -> None:
    table.at(f"{DAY}T01:59:00Z")
    made = await table.make(arguments={"text": "hello"})
    assert made.next_run is not None
    assert made.next_run.at == at("02:00")
    await table.fire()
    assert await table.jobs(made.id) == []
    table.at(f"{DAY}T02:00:01Z")
    await table.fire()
    await table.fire()
    assert await table.jobs(made.id) == [at("02:00")]
    (run,) = await table.runs(made.id)
    assert (run.state, run.trigger, run.is_late, run.outcome) == ("enqueued", "scheduled", False, "enqueued")
    seen = await table.view(made.id)
    assert seen.state == "running"
    assert seen.next_run is not None
    assert seen.next_run.at == at("02:00", "2026-11-21")
    await table.end()
    await table.settle()
    (run,) = await table.runs(made.id)
    assert (run.state, run.outcome) == ("succeeded", "succeeded")
    assert (await table.view(made.id)).state == "waiting"


async def test_the_local_time_decides_and_both_times_are_shown(table: Timetable) -> None:
    table.at(f"{DAY}T00:00:00Z")
    made = await table.make(timezone="Europe/Istanbul")
    assert made.next_run is not None
    assert made.next_run.at == at("23:00")
    assert made.next_run.local == "2026-11-21T02:00:00+03:00"


async def test_a_job_and_its_record_exist_together_or_not_at_all(table: Timetable) -> None:
    table.at(f"{DAY}T01:59:00Z")
    made = await table.make()
    table.at(f"{DAY}T02:00:01Z")
    async with table.engine() as uow:
        await fire.fire_due(uow, table.firing._jobs, limit=10)
        uow.undo_at_end()
    assert await table.jobs(made.id) == []
    assert await table.runs(made.id) == []
    await table.fire()
    assert await table.jobs(made.id) == [at("02:00")]


async def test_two_schedulers_at_once_enqueue_each_planned_time_once(table: Timetable) -> None:
    table.at(f"{DAY}T01:58:00Z")
    made = [await table.make(f"s{number}", "* * * * *") for number in range(30)]
    schedulers = [table.firing, table.another(), table.another()]
    for minute in (0, 1, 2):
        table.at(f"{DAY}T02:0{minute}:01Z")
        await asyncio.gather(*(each.fire() for each in schedulers * 3))
        await table.end()
        await asyncio.gather(*(each.settle() for each in schedulers))
    for each in made:
        assert (await table.jobs(each.id))[-3:] == [at("02:00"), at("02:01"), at("02:02")]


@pytest.mark.parametrize(
    ("misfire", "expected"),
    [
        ("once", [("02:00", "missed"), ("03:00", "missed"), ("04:00", "enqueued")]),
        ("skip", [("02:00", "missed"), ("03:00", "missed"), ("04:00", "missed")]),
        ("all", [("02:00", "enqueued"), ("03:00", "waiting"), ("04:00", "waiting")]),
    ],
)
async def test_after_an_outage_the_misfire_policy_decides(
    misfire: str, expected: list[tuple[str, str]], table: Timetable
) -> None:
    table.at(f"{DAY}T01:30:00Z")
    made = await table.make(cron="0 * * * *", misfire=misfire)
    table.at(f"{DAY}T04:30:00Z")
    await table.another().fire()  # a scheduler that has just been started: nobody was there
    assert await states(table, made.id) == expected
    assert all(run.is_late for run in await table.runs(made.id))


async def test_runs_of_the_policy_all_follow_each_other_and_never_overlap(table: Timetable) -> None:
    table.at(f"{DAY}T01:30:00Z")
    made = await table.make(cron="0 * * * *", misfire="all")
    table.at(f"{DAY}T04:30:00Z")
    await table.another().fire()
    for expected in ([at("02:00")], [at("02:00"), at("03:00")], [at("02:00"), at("03:00"), at("04:00")]):
        await table.settle()
        assert await table.jobs(made.id) == expected
        await table.settle()
        assert await table.jobs(made.id) == expected, "the run before has not ended"
        await table.end()
    await table.settle()
    assert await states(table, made.id) == [("02:00", "succeeded"), ("03:00", "succeeded"), ("04:00", "succeeded")]


async def test_a_tick_that_meets_the_run_before_is_recorded_as_skipped(table: Timetable) -> None:
    table.at(f"{DAY}T01:59:30Z")
    made = await table.make(cron="*/5 * * * *")
    for minute in ("00", "05", "10"):
        table.at(f"{DAY}T02:{minute}:01Z")
        await table.fire()
    assert await states(table, made.id) == [("02:00", "enqueued"), ("02:05", "skipped"), ("02:10", "skipped")]
    assert (await table.runs(made.id))[-1].reason == fire.OVERLAP
    await table.end()
    table.at(f"{DAY}T02:15:01Z")
    await table.fire()  # before anybody took over that the first one ended
    assert [state for _, state in await states(table, made.id)] == ["succeeded", "skipped", "skipped", "enqueued"]


async def test_a_job_put_back_by_hand_keeps_the_next_tick_from_running_beside_it(table: Timetable) -> None:
    table.at(f"{DAY}T01:59:30Z")
    made = await table.make(cron="*/5 * * * *")
    table.at(f"{DAY}T02:00:01Z")
    await table.fire()
    await table.end("failed")
    await table.settle()
    async with table.engine() as uow:
        (row,) = await uow.raw.fetch("SELECT tenant_id, id FROM jobs WHERE schedule_id = $1", made.id)
        await JOBS.job_put_back.many(uow.raw, row["tenant_id"], [row["id"]], "Manual retry", "ann", ["failed"])
    table.at(f"{DAY}T02:05:01Z")
    await table.fire()
    assert len(await table.jobs(made.id)) == 1
    assert (await states(table, made.id))[-1] == ("02:05", "skipped")


async def test_when_nobody_fired_it_shows_as_missed_and_then_as_run_by_hand(table: Timetable) -> None:
    table.at(f"{DAY}T01:30:00Z")
    made = await table.make(misfire="skip")
    table.at(f"{DAY}T05:00:00Z")
    seen = await table.view(made.id)
    assert (seen.state, seen.missed_count) == ("overdue", 1), "also while every scheduler is down"
    async with table.engine() as uow:
        (trouble,) = await watch.troubles(uow)
        figures = await watch.figures(uow)
    assert (trouble.id, trouble.problem, figures.overdue_count) == (made.id, None, 1)
    assert trouble.late_s > 3600
    await table.another().fire()
    assert (await table.runs(made.id))[0].outcome == "missed"
    assert ((await table.view(made.id)).state, (await table.view(made.id)).missed_count) == ("waiting", 1)
    async with table.app() as uow:
        run = await trigger.trigger(uow, JobPort(KINDS), ACTOR, made.id, when_busy="refuse", reason="after the outage")
    assert (run.trigger, run.state, run.reason) == ("manual", "enqueued", "after the outage")
    assert (await table.runs(made.id))[0].outcome == "missed", "not before the run has succeeded"
    await table.end()
    await table.settle()
    first, second = await table.runs(made.id)
    assert (first.state, first.outcome) == ("missed", "missed, later run by hand")
    assert second.outcome == "succeeded, by hand"
    assert (await table.view(made.id)).missed_count == 0


async def test_a_catch_up_run_makes_up_for_what_was_missed_before_it(table: Timetable) -> None:
    table.at(f"{DAY}T01:30:00Z")
    made = await table.make(cron="0 * * * *")
    table.at(f"{DAY}T03:30:00Z")
    await table.another().fire()
    await table.end()
    await table.settle()
    outcomes = [run.outcome for run in await table.runs(made.id)]
    assert outcomes == ["missed, made up for by a later run", "succeeded, late"]


async def test_a_failed_run_makes_up_for_nothing(table: Timetable) -> None:
    table.at(f"{DAY}T01:30:00Z")
    made = await table.make(cron="0 * * * *")
    table.at(f"{DAY}T03:30:00Z")
    await table.another().fire()
    await table.end("failed")
    await table.settle()
    assert [run.outcome for run in await table.runs(made.id)] == ["missed", "failed, late"]


async def test_a_paused_schedule_does_not_fire_and_what_passed_is_not_missed(table: Timetable) -> None:
    table.at(f"{DAY}T01:30:00Z")
    made = await table.make(cron="0 * * * *", misfire="all")
    async with table.app() as uow:
        paused = await draft.pause(uow, ACTOR, made.id, reason="maintenance")
    assert (paused.state, paused.paused_by, paused.pause_reason) == ("paused", ACTOR.name, "maintenance")
    table.at(f"{DAY}T04:30:00Z")
    await table.another().fire()
    async with table.app() as uow:
        resumed = await draft.resume(uow, ACTOR, made.id)
    await table.another().fire()
    assert await table.runs(made.id) == []
    assert resumed.next_run is not None
    assert resumed.next_run.at == at("05:00")
    assert resumed.missed_count == 0


async def test_a_change_counts_from_now_on(table: Timetable) -> None:
    table.at(f"{DAY}T03:00:00Z")
    made = await table.make()
    async with table.app() as uow:
        change = ScheduleChange(cron="0 1,4 * * *", timezone="Europe/Berlin")
        changed = await draft.update(uow, KINDS, ACTOR, made.id, change, least_gap_minutes=5)
    assert changed.next_run is not None
    assert changed.next_run.at == at("00:00", "2026-11-21"), "04:00 in Berlin is now, so it has passed"


async def test_a_leap_of_the_clock_forwards_makes_up_for_one_run_at_most(table: Timetable) -> None:
    table.at(f"{DAY}T01:58:00Z")
    made = [await table.make(f"s{policy}", "*/5 * * * *", misfire=policy) for policy in ("once", "all", "skip")]
    await table.fire()
    table.at(f"{DAY}T04:01:00Z")
    await table.fire()
    for each, count in zip(made, (1, 1, 0), strict=True):
        assert len(await table.jobs(each.id)) == count
        runs = await table.runs(each.id)
        assert {run.reason for run in runs if run.state == "missed"} == {fire.LEAPT}
        assert len(runs) == 25


async def test_a_leap_of_the_clock_backwards_repeats_nothing(table: Timetable) -> None:
    table.at(f"{DAY}T01:58:00Z")
    made = await table.make(cron="*/30 * * * *")
    for moment in ("02:00:01", "02:30:01", "03:00:01"):
        table.at(f"{DAY}T{moment}Z")
        await table.fire()
        await table.end()
        await table.settle()
    table.at(f"{DAY}T01:00:01Z")
    for moment in ("01:30:01", "02:00:01", "02:30:01", "03:00:01"):
        table.at(f"{DAY}T{moment}Z")
        await table.fire()
    assert await table.jobs(made.id) == [at("02:00"), at("02:30"), at("03:00")]
    table.at(f"{DAY}T03:30:01Z")
    await table.fire()
    assert (await table.jobs(made.id))[-1] == at("03:30")


async def test_one_schedule_that_cannot_be_fired_holds_up_no_other_and_is_flagged(table: Timetable) -> None:
    table.at(f"{DAY}T01:59:00Z")
    good, bad, gone = await table.make("good"), await table.make("bad"), await table.make("gone")
    async with table.engine() as uow:
        await uow.raw.execute("UPDATE schedules SET cron = 'nonsense' WHERE id = $1", bad.id)
        await uow.raw.execute("UPDATE schedules SET job_type = 'removed' WHERE id = $1", gone.id)
    table.at(f"{DAY}T02:00:01Z")
    with capture_logs() as logs:
        await table.fire()
    assert {entry["event"] for entry in logs} == {"schedule_failed", "schedule_refused"}
    assert await table.jobs(good.id) == [at("02:00")]
    (run,) = await table.runs(gone.id)
    assert run.state == "failed"
    assert "the job was refused" in (run.reason or "")
    async with table.engine() as uow:
        troubles = {each.id: each.problem for each in await watch.troubles(uow)}
    assert set(troubles) == {bad.id, gone.id}
    assert troubles[bad.id] == "could not be fired: invalid_cron"
    assert not await table.fire(), "it is not looked at again and again"


async def test_one_schedule_whose_statement_fails_holds_up_no_other(
    table: Timetable, monkeypatch: pytest.MonkeyPatch
) -> None:
    table.at(f"{DAY}T01:59:00Z")
    bad, good = await table.make("bad"), await table.make("good")
    fired = fire.fire

    async def failing(uow: UnitOfWork, jobs: Jobs, schedule: Schedule, *more: Any) -> None:
        if schedule.id == bad.id:
            await uow.raw.execute("SELECT 1 / 0")
        await fired(uow, jobs, schedule, *more)

    monkeypatch.setattr(fire, "fire", failing)
    table.at(f"{DAY}T02:00:01Z")
    with capture_logs() as logs:
        await table.fire()
    assert [entry["event"] for entry in logs] == ["schedule_failed"]
    assert await table.jobs(good.id) == [at("02:00")]
    async with table.engine() as uow:
        troubles = {each.id: each.problem for each in await watch.troubles(uow)}
    assert troubles == {bad.id: "could not be fired: DivisionByZeroError"}


async def test_a_zone_that_left_the_database_goes_on_by_its_last_offset_and_is_flagged(table: Timetable) -> None:
    table.at(f"{DAY}T20:00:00Z")
    made = await table.make(timezone="Europe/Istanbul")
    async with table.engine() as uow:
        await uow.raw.execute("UPDATE schedules SET timezone = 'Europe/Atlantis' WHERE id = $1", made.id)
    table.at(f"{DAY}T23:00:01Z")
    await table.fire()
    assert await table.jobs(made.id) == [at("23:00")]
    seen = await table.view(made.id)
    assert "no longer in the time zone database" in (seen.problem or "")
    assert seen.next_run is not None
    assert seen.next_run.at == at("23:00", "2026-11-21")
    async with table.engine() as uow:
        assert [each.id for each in await watch.troubles(uow)] == [made.id]


async def test_beginning_and_end_are_kept(table: Timetable) -> None:
    table.at(f"{DAY}T00:30:00Z")
    made = await table.make(cron="0 * * * *", starts_at=at("03:00"), ends_at=at("04:00"), misfire="all")
    async with table.app() as uow:
        detail = await read.get(uow, made.id)
    assert [run.at for run in detail.next_runs] == [at("03:00"), at("04:00")]
    for hour in ("01", "02", "03", "04", "05"):
        table.at(f"{DAY}T{hour}:00:01Z")
        await table.fire()
        await table.end()
        await table.settle()
    assert await table.jobs(made.id) == [at("03:00"), at("04:00")]
    assert (await table.view(made.id)).state == "ended"


async def test_standing_schedules_are_registered_once_and_keep_what_people_changed(table: Timetable) -> None:
    async with table.engine(NIL) as uow:
        assert await standing.register(uow, KINDS) == ["sweep-all"]
    async with table.engine(NIL) as uow:
        found = await read.named(uow, "sweep-all")
        change = ScheduleChange(cron="10 * * * *")
        await draft.update(uow, KINDS, ACTOR, found, change, least_gap_minutes=5)
    async with table.engine(NIL) as uow:
        assert await standing.register(uow, KINDS) == []
        assert (await read.view(uow, found)).cron == "10 * * * *"
    async with table.app() as uow:
        assert await read.listed(uow, limit=10) == [], "a tenant does not see them"


async def test_ten_thousand_due_at_once_are_spread_by_their_jitter(table: Timetable) -> None:
    table.at(f"{DAY}T01:59:00Z")
    made = [await table.make(f"s{number}", jitter_s=30) for number in range(40)]
    async with table.engine() as uow:
        dues = [row["due_at"] for row in await uow.raw.fetch("SELECT due_at FROM schedules")]
    assert len(set(dues)) > 30
    assert all(at("02:00:00") <= due <= at("02:00:30") for due in dues)
    table.at(f"{DAY}T02:00:31Z")
    await table.fire()
    for each in made:
        assert await table.jobs(each.id) == [at("02:00")], "the planned time is the same for all"


async def test_what_passes_by_itself_makes_no_planned_time_a_missed_one(
    table: Timetable, monkeypatch: pytest.MonkeyPatch
) -> None:
    table.at(f"{DAY}T01:59:00Z")
    made = await table.make()
    table.at(f"{DAY}T02:00:01Z")

    async def deadlock(*_arguments: Any, **_more: Any) -> Any:
        raise asyncpg.DeadlockDetectedError

    with monkeypatch.context() as patch:
        patch.setattr(JobPort, "enqueue", deadlock)
        with pytest.raises(Unavailable):
            await table.fire()
    assert await states(table, made.id) == []
    await table.fire()
    assert await states(table, made.id) == [("02:00", "enqueued")]


async def test_one_waiting_run_that_cannot_be_started_holds_up_no_other(
    table: Timetable, monkeypatch: pytest.MonkeyPatch
) -> None:
    table.at(f"{DAY}T01:59:00Z")
    made = [await table.make(name) for name in ("one", "two")]
    for each in made:
        for _ in range(2):
            async with table.app() as uow:
                await trigger.trigger(uow, table.firing._jobs, ACTOR, each.id, when_busy="queue")
    await table.end()
    turns: list[UUID] = []
    start = fire.start_waiting

    async def first_breaks(uow: Any, jobs: Any, schedule_id: UUID) -> bool:
        turns.append(schedule_id)
        if len(turns) == 1:
            raise LookupError
        return await start(uow, jobs, schedule_id)

    monkeypatch.setattr(fire, "start_waiting", first_breaks)
    with capture_logs() as logs:
        await table.settle()
    assert "schedule_not_started" in {entry["event"] for entry in logs}
    assert set(turns) == {each.id for each in made}
    assert [run.state for run in await table.runs(turns[1])][-1] == "enqueued"


@pytest.mark.parametrize("moment", ["9999-12-31T23:59:00+00:00", "0001-01-01T00:00:00+14:00"])
@pytest.mark.parametrize("field", ["starts_at", "ends_at"])
async def test_a_bound_at_the_end_of_all_time_is_refused(table: Timetable, field: str, moment: str) -> None:
    bound: dict[str, Any] = {field: datetime.fromisoformat(moment)}
    with pytest.raises(Refused) as refused:
        await table.make(**bound)
    assert (refused.value.code, refused.value.field) == ("out_of_range", f"/{field}")
