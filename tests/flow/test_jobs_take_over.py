"""What dead, silent and forgetful processes leave is taken over: nothing lost, every end fenced."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from outrider.base.ids import DEFAULT_TENANT
from outrider.data.db import Role
from outrider.domain.jobs import change, running
from outrider.domain.jobs.running import Ending, RunId, Self
from outrider.domain.jobs.stats import SILENT_S
from outrider.engine.jobs import reap
from tests.kit.jobs import TESTER, Workshop, job_type, silent, workshop

DEAD_S = 31.0
TYPES = ("echo",)


@pytest.fixture(scope="module")
async def house(new_database: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Workshop]:
    async with workshop(new_database("migrated"), tmp_path_factory.mktemp("jobs")) as made:
        yield made


@pytest.fixture
async def shop(house: Workshop) -> Workshop:
    """No jobs, no runs, no workers."""
    await house.execute("DELETE FROM jobs")
    await house.execute("DELETE FROM job_workers")
    async with house.runtime.db.uow(Role.JOBS) as uow:
        await uow.raw.execute("DELETE FROM outrider_dbos.workflow_status")
    return house


class Hand:
    """A worker played by the test: it begins and ends runs, and says what it holds."""

    def __init__(self, shop: Workshop) -> None:
        self.shop = shop
        self.me = Self(uuid4(), "here", "a place", os.getpid(), TYPES)
        self.token = uuid4()

    async def beat(self, *runs: RunId) -> None:
        async with self.shop.engine() as uow:
            await running.beat(uow, self.me, [str(run) for run in runs], is_stopping=False)

    async def begin(self, job_id: UUID, number: int = 1) -> RunId:
        run = RunId(DEFAULT_TENANT, job_id, number)
        async with self.shop.engine() as uow:
            assert await running.begin(uow, run, self.token, self.me.id, TYPES) is not None
        async with self.shop.runtime.db.uow(Role.JOBS) as uow:
            await uow.raw.execute(
                "UPDATE outrider_dbos.workflow_status SET status = 'PENDING', executor_id = $2, "
                "started_at_epoch_ms = extract(epoch FROM now()) * 1000 WHERE workflow_uuid = $1",
                str(run),
                str(self.me.id),
            )
        return run

    async def finish(self, run: RunId, ending: Ending) -> str | None:
        async with self.shop.engine() as uow:
            return await running.finish(uow, run, self.token, self.me.id, ending)


async def take_over(shop: Workshop) -> dict[str, int]:
    async with shop.engine() as uow:
        return await running.take_over(uow)


async def runs(shop: Workshop) -> dict[str, str]:
    async with shop.runtime.db.uow(Role.JOBS) as uow:
        rows = await uow.raw.fetch("SELECT workflow_uuid, status FROM outrider_dbos.workflow_status")
    return {row["workflow_uuid"].split("/")[2]: row["status"] for row in rows}


async def test_the_jobs_of_a_silent_process_go_on_with_a_new_run_and_the_old_end_is_fenced(shop: Workshop) -> None:
    job_id, hand = await shop.enqueue("echo"), Hand(shop)
    await hand.beat()
    run = await hand.begin(job_id)
    await hand.beat(run)
    assert await take_over(shop) == {}, "it lives"
    await silent(shop, DEAD_S)
    assert await take_over(shop) == {"enqueued": 1}
    job = await shop.job(job_id)
    assert (job.state, job.attempt, job.crashes) == ("enqueued", 0, 1)
    assert await runs(shop) == {"2": "ENQUEUED"}, "the old run takes up no room in its queue"
    assert await hand.finish(run, Ending("succeeded", result="1")) is None
    assert (await shop.job(job_id)).state == "enqueued"
    assert await take_over(shop) == {}


async def test_a_process_without_any_record_is_a_dead_one(shop: Workshop) -> None:
    job_id = await shop.enqueue("echo")
    await Hand(shop).begin(job_id)
    assert await take_over(shop) == {"enqueued": 1}


async def test_a_job_whose_processes_died_three_times_is_poison(shop: Workshop) -> None:
    job_id = await shop.enqueue("echo")
    for number in (1, 2, 3):
        await Hand(shop).begin(job_id, number)
        await take_over(shop)
    job = await shop.job(job_id)
    assert (job.state, job.error_code, job.crashes) == ("failed", "poison", 3)
    assert await runs(shop) == {}


async def test_what_took_too_long_has_failed_also_when_its_process_died(shop: Workshop) -> None:
    job_id = await shop.enqueue("echo")
    await Hand(shop).begin(job_id)
    await shop.execute("UPDATE jobs SET deadline_at = now() - interval '11 seconds'")
    assert await take_over(shop) == {"timed_out": 1}
    job = await shop.job(job_id)
    assert (job.state, job.error_code) == ("failed", "timed_out")


async def test_what_took_too_long_has_failed_also_when_its_process_hangs(shop: Workshop) -> None:
    job_id, hand = await shop.enqueue("echo"), Hand(shop)
    await hand.beat()
    run = await hand.begin(job_id)
    await hand.beat(run)
    await shop.execute("UPDATE jobs SET deadline_at = now() - interval '11 seconds'")
    assert await take_over(shop) == {"timed_out": 1}
    assert await hand.finish(run, Ending("succeeded")) is None


async def test_a_run_that_its_living_process_knows_nothing_of_goes_on_and_is_no_crash(shop: Workshop) -> None:
    job_id, hand = await shop.enqueue("echo"), Hand(shop)
    await hand.beat()
    await hand.begin(job_id)
    await shop.execute("UPDATE jobs SET started_at = now() - interval '20 seconds'")
    await hand.beat()
    assert await take_over(shop) == {"enqueued": 1}
    assert (await shop.job(job_id)).crashes == 0


async def test_a_cancelled_job_of_a_dead_process_ends_as_deleted(shop: Workshop) -> None:
    job_id = await shop.enqueue("echo")
    await Hand(shop).begin(job_id)
    async with shop.app() as uow:
        await change.cancel(uow, TESTER, job_id)
    assert await take_over(shop) == {"deleted": 1}
    assert (await shop.job(job_id)).state == "deleted"


@pytest.mark.parametrize("executor", ["dead", "forgetful"])
async def test_a_run_that_was_claimed_and_never_begun_is_given_anew(shop: Workshop, executor: str) -> None:
    job_id, hand = await shop.enqueue("echo"), Hand(shop)
    if executor == "forgetful":
        await hand.beat()
    async with shop.runtime.db.uow(Role.JOBS) as uow:
        await uow.raw.execute(
            "UPDATE outrider_dbos.workflow_status SET status = 'PENDING', executor_id = $1, "
            "started_at_epoch_ms = extract(epoch FROM now()) * 1000 - 16000",
            str(hand.me.id),
        )
    assert await take_over(shop) == {"claim": 1}
    assert await runs(shop) == {"2": "ENQUEUED"}
    assert (await shop.job(job_id)).state == "enqueued"


async def test_a_waiting_job_whose_run_is_gone_gets_another(shop: Workshop) -> None:
    await shop.enqueue("echo")
    async with shop.runtime.db.uow(Role.JOBS) as uow:
        await uow.raw.execute("DELETE FROM outrider_dbos.workflow_status")
    assert await take_over(shop) == {}, "it may be on its way"
    await shop.execute("UPDATE jobs SET waiting_since = now() - interval '16 seconds'")
    assert await take_over(shop) == {"run": 1}
    assert await runs(shop) == {"2": "ENQUEUED"}


async def test_a_claimed_run_of_a_job_that_is_gone_frees_its_place(shop: Workshop) -> None:
    await shop.enqueue("echo")
    async with shop.runtime.db.uow(Role.JOBS) as uow:
        await uow.raw.execute(
            "UPDATE outrider_dbos.workflow_status SET status = 'PENDING', executor_id = 'nobody', "
            "started_at_epoch_ms = extract(epoch FROM now()) * 1000 - 16000"
        )
    await shop.execute("DELETE FROM jobs")
    assert await take_over(shop) == {"orphan": 1}
    assert await runs(shop) == {}


async def test_one_process_takes_over_at_a_time(shop: Workshop) -> None:
    await Hand(shop).begin(await shop.enqueue("echo"))
    async with shop.engine() as first:
        assert await running.take_over(first) == {"enqueued": 1}
        assert await take_over(shop) == {}
    assert await take_over(shop) == {}


async def test_a_dead_process_of_this_machine_need_not_be_waited_for(shop: Workshop) -> None:
    job_id, hand = await shop.enqueue("echo"), Hand(shop)
    process = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True
    )
    hand.me = Self(hand.me.id, "here", reap.place(), int(process.stdout), TYPES)
    await hand.beat()
    run = await hand.begin(job_id)
    await hand.beat(run)
    reaper = reap.Reaper(shop.runtime)
    await reaper.step()
    async with shop.engine() as uow:
        assert hand.me.id not in await running.neighbours(uow, reap.place())
    assert await take_over(shop) == {"enqueued": 1}


async def test_nobody_is_judged_right_after_the_database_was_away(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = await shop.enqueue("echo")
    await Hand(shop).begin(job_id)
    reaper = reap.Reaper(shop.runtime)
    now = [1000.0]
    monkeypatch.setattr(reap, "boottime_s", lambda: now[0])
    for at, state in ((1000.0, "processing"), (1005.0, "processing"), (1030.0, "processing"), (1041.0, "enqueued")):
        now[0] = at
        await reaper.step()
        assert (await shop.job(job_id)).state == state, at
    assert reaper.taken_over == {"enqueued": 1}


async def test_a_process_that_lost_touch_stops_what_it_runs(shop: Workshop) -> None:
    ended = asyncio.Event()
    inside = asyncio.Event()

    async def run(*_arguments: object) -> None:
        inside.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    shop.types["wait"] = job_type("wait", run)
    async with shop.running() as scheduler, asyncio.timeout(90):
        job_id = await shop.enqueue("wait")
        await inside.wait()
        inside.clear()
        while not ended.is_set():  # no heartbeat has arrived for a minute, whichever of the loops comes first
            scheduler._touched_at -= 60
            await asyncio.sleep(0.01)
        await inside.wait()  # and, the database being there after all, it goes on
        assert await shop.words(job_id) == ["enqueued", "processing", "enqueued", "processing"]


async def test_a_cancellation_in_the_same_moment_ends_the_job_instead_of_putting_it_back(shop: Workshop) -> None:
    job_id = await shop.enqueue("echo")
    await Hand(shop).begin(job_id)
    async with shop.app() as uow:
        await change.cancel(uow, TESTER, job_id)
        taking = asyncio.create_task(take_over(shop))
        async with asyncio.timeout(90), shop.engine() as other:
            waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            while not taking.done() and not await other.raw.fetchval(waiting):  # noqa: ASYNC110 - locks set no event
                await asyncio.sleep(0.01)
    await taking
    await take_over(shop)
    assert (await shop.job(job_id)).state == "deleted"


async def test_a_job_held_by_a_transaction_that_stands_still_keeps_no_other_from_being_taken_over(
    shop: Workshop,
) -> None:
    held, other, hand = await shop.enqueue("echo"), await shop.enqueue("echo"), Hand(shop)
    run = await hand.begin(held)
    await Hand(shop).begin(other)
    async with shop.engine() as uow:
        await running.hold(uow, run, hand.token)
        async with asyncio.timeout(90):
            assert await take_over(shop) == {"enqueued": 1}
        assert (await shop.job(other)).state == "enqueued"
        assert (await shop.job(held)).state == "processing", "what holds it may still commit"
    assert await take_over(shop) == {"enqueued": 1}


async def test_a_transaction_that_holds_a_job_and_stands_still_ends_before_its_process_is_taken_for_dead(
    shop: Workshop,
) -> None:
    hand = Hand(shop)
    run = await hand.begin(await shop.enqueue("echo"))
    async with shop.engine() as uow:
        await running.hold(uow, run, hand.token)
        most = await uow.raw.fetchval(
            "SELECT setting::int FROM pg_settings WHERE name = 'idle_in_transaction_session_timeout'"
        )
    assert 0 < most < SILENT_S * 1000


async def test_whoever_stands_still_while_taking_over_keeps_the_others_from_it_for_a_short_while(
    shop: Workshop,
) -> None:
    async with shop.engine() as uow:
        await running.take_over(uow)
        most = await uow.raw.fetchval(
            "SELECT setting::int FROM pg_settings WHERE name = 'idle_in_transaction_session_timeout'"
        )
    assert 0 < most < SILENT_S * 1000 / 2


async def test_a_heartbeat_of_the_future_is_none(shop: Workshop) -> None:
    job_id, hand = await shop.enqueue("echo"), Hand(shop)
    await hand.beat()
    await hand.beat(await hand.begin(job_id))
    await shop.execute("UPDATE job_workers SET heartbeat_at = now() + interval '2 hours'")  # the clock was set back
    assert await take_over(shop) == {"enqueued": 1}


@pytest.mark.parametrize("hours", [2, -2])
async def test_nobody_is_judged_right_after_the_clock_of_the_database_was_set(
    hours: int, shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id, hand = await shop.enqueue("echo"), Hand(shop)
    await hand.beat()
    run = await hand.begin(job_id)
    await hand.beat(run)
    reaper = reap.Reaper(shop.runtime)
    now, clock = [1000.0], datetime.now(UTC) - timedelta(hours=hours, seconds=1017)

    async def leaping(_uow: object) -> datetime:
        return clock + timedelta(seconds=now[0], hours=hours if now[0] > 1012 else 0)

    monkeypatch.setattr(reap, "boottime_s", lambda: now[0])
    monkeypatch.setattr(running, "clock", leaping)
    for now[0] in (1000.0, 1006.0, 1012.0):
        await reaper.step()
    now[0] = 1017.0  # the clock has leapt: every heartbeat is off until it is repeated
    await shop.execute("UPDATE job_workers SET heartbeat_at = heartbeat_at - make_interval(hours => $1)", hours)
    await shop.execute(
        "UPDATE jobs SET started_at = started_at - make_interval(hours => $1), "
        "deadline_at = deadline_at - make_interval(hours => $1)",
        hours,
    )
    await reaper.step()
    await hand.beat(run)
    for now[0] in (1022.0, 1028.0):
        await reaper.step()
    job = await shop.job(job_id)
    assert (job.state, job.crashes, reaper.taken_over) == ("processing", 0, {})


async def test_the_longer_nobody_knows_a_type_the_rarer_it_is_looked_at(shop: Workshop) -> None:
    waits_s = []
    for waited_s in (0, 1200, 864_000):
        job_id = await shop.enqueue("echo")
        await shop.execute(
            "UPDATE jobs SET waiting_since = now() - make_interval(secs => $2::int) WHERE id = $1", job_id, waited_s
        )
        async with shop.engine() as uow:
            assert await running.set_straight(uow, RunId(DEFAULT_TENANT, job_id, 1), ("other",)) == "unknown type"
        job = await shop.job(job_id)
        waits_s.append(round((job.run_at - job.changed_at).total_seconds()))
    assert waits_s == [running.SET_ASIDE_S, 120, running.SET_ASIDE_MOST_S]
