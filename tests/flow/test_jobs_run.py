"""A whole scheduler on a real database: jobs begin, end, fail, are tried again, stopped and handed back."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from outrider.app.processes import HARD_AFTER_S
from outrider.base.errors import Misconfigured, Refused, Unavailable
from outrider.base.ids import NIL
from outrider.contracts.jobs import JobContext
from outrider.data.db import Role
from outrider.domain.jobs import change, queues, stats
from outrider.domain.messages import workers
from outrider.engine.jobs import run
from outrider.engine.jobs.run import Scheduler
from outrider.engine.loop import Loop
from tests.kit import spin
from tests.kit.jobs import BOUND_S, TESTER, Workshop, job_type, workshop


class Gate:
    """Lets jobs wait until the test has seen what it wants."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.inside = 0
        self.most_inside = 0
        self.order: list[int] = []
        self.ends: list[str] = []

    async def run(self, _context: JobContext, arguments: Any) -> None:
        """Wait at the gate."""
        self.order.append(arguments.n)
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        try:
            await self.opened.wait()
        except asyncio.CancelledError:
            self.ends.append("cancelled")
            raise
        finally:
            self.inside -= 1


@pytest.fixture(scope="module")
async def house(new_database: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Workshop]:
    async with workshop(new_database("migrated"), tmp_path_factory.mktemp("jobs")) as made:
        yield made


@pytest.fixture
async def shop(house: Workshop) -> Workshop:
    """No jobs, and queues as they come."""
    await house.execute("DELETE FROM jobs")
    await house.execute(
        "UPDATE job_queues SET paused_at = NULL, closed_at = NULL, concurrency = NULL, worker_concurrency = NULL"
    )
    async with house.runtime.db.uow(Role.JOBS) as uow:
        await uow.raw.execute("DELETE FROM outrider_dbos.workflow_status")
    return house


async def eventually(is_so: Callable[[], bool | Awaitable[bool]]) -> None:
    async with asyncio.timeout(BOUND_S):
        while True:
            found = is_so()
            if found if isinstance(found, bool) else await found:
                return
            await asyncio.sleep(0.01)


def failing(error: BaseException) -> Callable[[JobContext, Any], Awaitable[Any]]:
    async def run(_context: JobContext, _arguments: Any) -> None:
        raise error

    return run


async def test_a_job_is_run_and_its_result_and_history_are_kept(shop: Workshop) -> None:
    async with shop.running():
        job_id = await shop.enqueue("echo", {"n": 7, "text": "hello"})
        job = await shop.until(job_id, "succeeded")
    assert job.result == {"n": 7, "text": "hello", "attempt": 1, "by": "t…@example.com"}, "addresses are cut short"
    assert await shop.words(job_id) == ["enqueued", "processing", "succeeded"]
    assert job.started_at is not None
    assert job.finished_at is not None
    assert job.started_at <= job.finished_at


async def test_a_job_for_later_runs_at_its_time(shop: Workshop) -> None:
    async with shop.running():
        later = datetime.now(UTC) + timedelta(hours=1)
        job_id = await shop.enqueue("echo", run_at=later)
        assert (await shop.job(job_id)).run_at == later
        async with shop.engine() as uow:  # its time comes near once it is known to be scheduled
            soon = "UPDATE jobs SET run_at = clock_timestamp() + interval '1 s' WHERE id = $1 RETURNING run_at"
            due = await uow.raw.fetchval(soon, job_id)
        job = await shop.until(job_id, "succeeded")
    assert await shop.words(job_id) == ["scheduled", "enqueued", "processing", "succeeded"]
    assert job.started_at is not None
    assert job.started_at >= due


async def test_an_unknown_error_is_tried_again_and_then_final_with_secrets_cut_out(shop: Workshop) -> None:
    error = LookupError("password=hunter2 at postgresql://user:hunter3@host for somebody@example.org")
    shop.types["bug"] = job_type("bug", failing(error), max_attempts=2)
    async with shop.running():
        job = await shop.until(await shop.enqueue("bug"), "failed")
    assert (job.attempt, job.error_code) == (2, "broken")
    assert job.error is not None
    assert job.error.startswith("LookupError")
    assert not [secret for secret in ("hunter2", "hunter3", "somebody@example.org") if secret in job.error]
    assert await shop.words(job.id) == [
        "enqueued", "processing", "scheduled", "enqueued", "processing", "failed",
    ]  # fmt: skip


@pytest.mark.parametrize("error", [Refused("no_list", "there is no such list"), Misconfigured("no_key", "set a key")])
async def test_what_trying_again_cannot_mend_is_final_at_once(shop: Workshop, error: Refused | Misconfigured) -> None:
    shop.types["final"] = job_type("final", failing(error), max_attempts=5)
    async with shop.running():
        job = await shop.until(await shop.enqueue("final"), "failed")
    assert (job.attempt, job.error_code, job.error) == (1, error.code, error.message)


async def test_what_passes_by_itself_is_tried_again(shop: Workshop) -> None:
    tries: list[int] = []

    async def run(context: JobContext, _arguments: Any) -> str:
        tries.append(context.attempt)
        if context.attempt < 3:
            raise Unavailable("away", "come again")
        return "at last"

    shop.types["flaky"] = job_type("flaky", run, max_attempts=3)
    async with shop.running():
        job = await shop.until(await shop.enqueue("flaky"), "succeeded")
    assert (job.result, tries) == ("at last", [1, 2, 3])


@pytest.mark.parametrize("result", [{"a": object()}, ["x" * 1000] * 70, "a\x00b"])
async def test_a_result_that_cannot_be_kept_fails_the_job(shop: Workshop, result: Any) -> None:
    async def run(_context: JobContext, _arguments: Any) -> Any:
        return result

    shop.types["odd"] = job_type("odd", run)
    async with shop.running():
        job = await shop.until(await shop.enqueue("odd"), "failed", "succeeded")
    assert (job.state, job.error_code) == ("failed", "invalid_result")


async def test_urgent_jobs_go_first_and_equal_ones_in_their_order(shop: Workshop) -> None:
    gate = Gate()
    gate.opened.set()
    shop.types["gate"] = job_type("gate", gate.run)
    async with shop.engine(NIL) as uow:
        await queues.set_concurrency(uow, TESTER, "default", concurrency=1, worker_concurrency=None)
    ids = [await shop.enqueue("gate", {"n": n}, priority=priority) for n, priority in enumerate((5, 9, 5, 0))]
    async with shop.running():
        for job_id in ids:
            await shop.until(job_id, "succeeded")
    assert gate.order == [3, 0, 2, 1]


async def test_the_limit_of_a_queue_holds_and_can_be_changed_while_it_runs(shop: Workshop) -> None:
    gate = Gate()
    shop.types["gate"] = job_type("gate", gate.run)
    async with shop.engine(NIL) as uow:
        await queues.set_concurrency(uow, TESTER, "default", concurrency=2, worker_concurrency=None)
    ids = [await shop.enqueue("gate", {"n": n}) for n in range(6)]
    async with shop.running() as scheduler:
        await eventually(lambda: gate.inside == 2)
        await rounds(scheduler, 3)
        assert gate.most_inside == 2
        async with shop.engine(NIL) as uow:
            await queues.set_concurrency(uow, TESTER, "default", concurrency=4, worker_concurrency=None)
        await eventually(lambda: gate.inside == 4)
        async with shop.engine(NIL) as uow:
            await queues.set_concurrency(uow, TESTER, "default", concurrency=None, worker_concurrency=6)
        await eventually(lambda: gate.inside == 6)
        gate.opened.set()
        for job_id in ids:
            await shop.until(job_id, "succeeded")


async def rounds(scheduler: Scheduler, count: int) -> None:
    """Wait until the pump has looked so often."""
    pulse = scheduler.pulses.by_name["job_pump"]
    seen = pulse.rounds
    while pulse.rounds < seen + count:
        scheduler.wake.set()
        await asyncio.sleep(0.01)


async def test_a_paused_queue_begins_nothing_until_it_is_resumed(shop: Workshop) -> None:
    async with shop.running() as scheduler:
        async with shop.engine(NIL) as uow:
            await queues.pause(uow, TESTER, "default", "a look at it")
        job_id = await shop.enqueue("echo")
        await rounds(scheduler, 3)
        assert (await shop.job(job_id)).state == "enqueued"
        async with shop.engine(NIL) as uow:
            await queues.resume(uow, TESTER, "default")
        await shop.until(job_id, "succeeded")
    assert await shop.words(job_id) == ["enqueued", "processing", "succeeded"]


async def test_a_run_claimed_just_before_a_pause_waits_and_is_not_lost(shop: Workshop) -> None:
    async with shop.running() as scheduler:
        await shop.execute("UPDATE job_queues SET paused_at = now()")
        job_id = await shop.enqueue("echo")
        # what the pump had decided a moment before the pause
        claimed = await asyncio.to_thread(scheduler.claims.claim, "default", concurrency=None, room=1)
        assert claimed == 1
        await eventually(lambda: not scheduler.claims.held())
        assert (await shop.job(job_id)).state == "enqueued"
        await shop.execute("UPDATE job_queues SET paused_at = NULL")
        scheduler.wake.set()
        await shop.until(job_id, "succeeded")


async def test_a_running_job_is_cancelled_within_its_task(shop: Workshop) -> None:
    gate = Gate()
    shop.types["gate"] = job_type("gate", gate.run)
    async with shop.running():
        job_id = await shop.enqueue("gate")
        await eventually(lambda: gate.inside == 1)
        async with shop.app() as uow:
            await change.cancel(uow, TESTER, job_id, "enough")
        job = await shop.until(job_id, "deleted")
    assert (job.reason, gate.ends) == ("cancelled: enough", ["cancelled"])


async def test_a_cancellation_is_heard_without_the_notification(shop: Workshop) -> None:
    gate = Gate()
    shop.types["gate"] = job_type("gate", gate.run)
    async with shop.running():
        job_id = await shop.enqueue("gate")
        await shop.until(job_id, "processing")
        await shop.execute("UPDATE jobs SET cancel_requested_at = now(), cancel_reason = 'hand' WHERE id = $1", job_id)
        assert (await shop.until(job_id, "deleted")).reason == "cancelled: hand"


async def test_a_job_that_somebody_wants_cancelled_is_not_tried_again(shop: Workshop) -> None:
    gate = Gate()

    async def run(context: JobContext, arguments: Any) -> None:
        with suppress(asyncio.CancelledError):
            await gate.run(context, arguments)
        raise Unavailable("away", "come again")

    shop.types["stubborn"] = job_type("stubborn", run)
    async with shop.running():
        job_id = await shop.enqueue("stubborn")
        await eventually(lambda: gate.inside == 1)
        await shop.execute("UPDATE jobs SET cancel_requested_at = now(), cancel_reason = 'x' WHERE id = $1", job_id)
        gate.opened.set()
        assert (await shop.until(job_id, "deleted", "scheduled")).state == "deleted"


async def test_a_job_that_takes_too_long_has_failed(shop: Workshop) -> None:
    gate = Gate()
    shop.types["slow"] = job_type("slow", gate.run, timeout_s=1)
    async with shop.running():
        job = await shop.until(await shop.enqueue("slow"), "failed")
        await eventually(lambda: gate.ends == ["cancelled"])
    assert (job.error_code, job.attempt) == ("timed_out", 1)


async def test_what_runs_when_the_process_stops_goes_back_and_the_attempt_is_not_counted(shop: Workshop) -> None:
    gate = Gate()
    shop.types["gate"] = job_type("gate", gate.run)
    async with shop.running():
        job_id = await shop.enqueue("gate")
        await eventually(lambda: gate.inside == 1)
    job = await shop.job(job_id)
    assert (job.state, job.attempt, job.reason) == ("enqueued", 0, "its process was stopped")
    gate.opened.set()
    async with shop.running():
        assert (await shop.until(job_id, "succeeded")).attempt == 1


async def test_progress_shows_count_rate_and_estimated_finish(shop: Workshop) -> None:
    gate = Gate()

    async def run(context: JobContext, arguments: Any) -> None:
        await context.progress(10, 100, "rows")
        await asyncio.sleep(1.1)  # it is written at most once a second
        await context.progress(20, 100, "rows")
        await gate.run(context, arguments)
        await context.progress(100, 100, "rows")

    shop.types["counting"] = job_type("counting", run)
    async with shop.running():
        job_id = await shop.enqueue("counting")
        await eventually(lambda: gate.inside == 1)
        midway = (await shop.job(job_id)).progress
        gate.opened.set()
        at_the_end = (await shop.until(job_id, "succeeded")).progress
    assert midway is not None
    assert (midway.done, midway.total, midway.note) == (20, 100, "rows")
    assert midway.rate_per_s is not None
    assert 0 < midway.rate_per_s < 10
    assert midway.at is not None
    assert midway.finish_at is not None
    assert midway.finish_at > midway.at
    assert at_the_end is not None
    assert at_the_end.done == 100


async def test_a_job_whose_type_nobody_here_knows_waits_and_is_raised(shop: Workshop) -> None:
    shop.types["later"] = job_type("later", Gate().run)
    job_id = await shop.enqueue("later")
    del shop.types["later"]
    async with shop.running():
        job = await shop.until(job_id, "scheduled")
        assert "knows the type later" in job.reason
        async with shop.engine() as uow:
            (found,) = await stats.stranded(uow, after_s=0)
    assert (found.queue, found.type, found.count) == ("default", "later", 1)
    assert found.cause == "no live worker knows this type"


async def test_a_job_without_any_live_worker_is_raised(shop: Workshop) -> None:
    await shop.enqueue("echo")
    await shop.execute("DELETE FROM job_workers")
    async with shop.engine() as uow:
        (found,) = await stats.stranded(uow, after_s=0)
        assert await stats.stranded(uow) == [], "it has not waited for long"
    assert (found.type, found.cause) == ("echo", "no scheduler process is alive")


async def test_a_process_says_that_it_lives_and_leaves_in_order(shop: Workshop) -> None:
    gate = Gate()
    shop.types["gate"] = job_type("gate", gate.run)
    async with shop.running() as scheduler:
        job_id = await shop.enqueue("gate")
        await eventually(lambda: gate.inside == 1)

        async def is_listed() -> bool:
            async with shop.engine() as uow:
                return any(str(job_id) in run for worker in await stats.workers(uow) for run in worker.running)

        await eventually(is_listed)
        async with shop.engine() as uow:
            (worker,) = await stats.workers(uow)
            seen = {each.process.id: each for each in await workers.listed(uow.raw)}
        assert worker.is_alive
        assert "gate" in worker.types
        assert seen[scheduler.options.worker_id].process.role == "scheduler"
        gate.opened.set()
        await shop.until(job_id, "succeeded")
    async with shop.engine() as uow:
        assert await stats.workers(uow) == []


async def test_heavy_work_runs_in_a_child_without_our_secrets(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTRIDER_SECRET_KEY", "x")
    async with shop.running():
        job = await shop.until(await shop.enqueue("spin", {"rounds": 3}), "succeeded", "failed")
    assert job.result == {"total": 3 * sum(range(1000)), "ours": []}, job.error


@pytest.mark.parametrize(
    ("fail", "code"),
    [("refused", "no_such_thing"), ("bug", "broken"), ("die", "child_died")],
)
async def test_a_child_that_fails_fails_its_job(shop: Workshop, fail: str, code: str) -> None:
    async with shop.running():
        job = await shop.until(await shop.enqueue("spin", {"fail": fail}), "failed")
    assert job.error_code == code
    assert "hunter2" not in (job.error or "")


async def test_what_a_child_prints_is_no_answer(shop: Workshop) -> None:
    async with shop.running():
        job = await shop.until(await shop.enqueue("spin", {"fail": "chatter"}), "succeeded", "failed")
    assert job.state == "succeeded"


async def test_a_round_that_waits_for_ever_is_cut_when_the_scheduler_has_ended(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "_LAST_ROUND_S", 0.05)
    begun = asyncio.Event()

    async def wait() -> bool:
        begun.set()
        return await asyncio.Event().wait()

    async with shop.running([Loop("stuck", 1.0, wait)]) as scheduler:
        async with asyncio.timeout(BOUND_S):
            await begun.wait()
    assert (scheduler.state, scheduler.is_clean) == ("stopped", True)


async def test_a_job_library_that_does_not_let_go_keeps_neither_the_scheduler_nor_the_end_of_its_event_loop(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "_CLOSE_S", 0.05)
    let_go = threading.Event()
    async with shop.running() as scheduler:
        close = scheduler.claims.close

        def hang() -> None:
            let_go.wait(BOUND_S)
            close()

        monkeypatch.setattr(scheduler.claims, "close", hang)
    (thread,) = (each for each in threading.enumerate() if each.name == "job-claims-end")
    try:
        assert thread.daemon, "not one of the loop's executor, whose threads its end waits for"
        assert not scheduler.is_clean
    finally:
        let_go.set()
        await asyncio.to_thread(thread.join, BOUND_S)
    assert not thread.is_alive()


def test_the_end_of_a_scheduler_fits_between_its_grace_and_its_hard_end() -> None:
    assert run.AFTER_GRACE_S < HARD_AFTER_S


@pytest.mark.parametrize("how", ["cancel", "time", "stop"])
async def test_a_child_is_ended_with_its_job(shop: Workshop, how: str, tmp_path: Path) -> None:
    async with shop.running():
        job_id, pid = await _spinning(shop, tmp_path, 8 if how == "time" else 600)
        if how == "cancel":
            async with shop.app() as uow:
                await change.cancel(uow, TESTER, job_id)
            await shop.until(job_id, "deleted")
        elif how == "time":
            assert (await shop.until(job_id, "failed")).error_code == "timed_out"
        if how != "stop":
            await eventually(lambda: not _exists(pid))
    assert not _exists(pid)
    if how == "stop":
        assert (await shop.job(job_id)).state == "enqueued"


async def _spinning(shop: Workshop, folder: Path, timeout_s: int) -> tuple[UUID, int]:
    """A job whose child counts, and the child's pid; with twice the time when that was over before a child began."""
    while True:
        file = folder / f"pid-{timeout_s}"
        shop.types["spin"] = replace(spin.JOB, timeout_s=timeout_s)
        job_id = await shop.enqueue("spin", {"rounds": 10**9, "file": str(file)})
        async with asyncio.timeout(BOUND_S):
            while (job := await shop.job(job_id)).state != "failed":
                if pid := _written(file):
                    return job_id, int(pid)
                await asyncio.sleep(0.01)
        assert job.error_code == "timed_out"
        timeout_s *= 2


def _written(file: Path) -> str:
    return file.read_text() if file.exists() else ""


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_unit_of_work_bound_to_a_run_commits_nothing_once_the_job_was_taken_over(shop: Workshop) -> None:
    outcome: list[str] = []

    async def run(context: JobContext, _arguments: Any) -> None:
        runtime = context.runtime
        await shop.execute("UPDATE jobs SET run_token = gen_random_uuid() WHERE id = $1", context.job_id)
        try:
            async with runtime.db.uow(Role.ENGINE) as uow:
                await context.hold(uow)
                await uow.raw.execute("INSERT INTO lists (tenant_id, name) VALUES ($1, 'twice')", context.tenant_id)
        except BaseException as error:
            outcome.append(type(error).__name__)
            raise

    shop.types["held"] = job_type("held", run)
    async with shop.running() as scheduler:
        await shop.enqueue("held")
        await eventually(lambda: scheduler.executor.fenced_count == 1)
    async with shop.engine() as uow:
        assert await uow.raw.fetchval("SELECT count(*) FROM lists WHERE name = 'twice'") == 0
    assert outcome == ["Superseded"]


async def test_ended_runs_are_swept_and_ended_jobs_go_after_their_time(shop: Workshop) -> None:
    async def is_over() -> bool:
        """Whether the end of its run was written down, which comes after the run was let go of."""
        async with shop.runtime.db.uow(Role.JOBS) as uow:
            return bool(await uow.raw.fetchval("SELECT count(completed_at) = 1 FROM outrider_dbos.workflow_status"))

    async with shop.running() as scheduler:
        job_id = await shop.enqueue("echo")
        await shop.until(job_id, "succeeded")
        await eventually(is_over)
        by_name = {loop.name: loop for loop in scheduler.loops}
        async with shop.runtime.db.uow(Role.JOBS) as uow:
            await uow.raw.execute("UPDATE outrider_dbos.workflow_status SET completed_at = completed_at - 3600000")
        await by_name["job_runs"].step()
        async with shop.runtime.db.uow(Role.JOBS) as uow:
            assert await uow.raw.fetchval("SELECT count(*) FROM outrider_dbos.workflow_status") == 0
        await shop.execute("UPDATE jobs SET finished_at = now() - interval '31 days'")
        await by_name["job_retention"].step()
    with pytest.raises(Refused, match="no such job"):
        await shop.job(job_id)


async def test_jobs_of_the_installation_belong_to_no_tenant(shop: Workshop) -> None:
    async with shop.running():
        async with shop.engine(NIL) as uow:
            made = await shop.runtime.jobs.enqueue(uow, TESTER, "echo")
        job_id: UUID = made.id

        async def is_done() -> bool:
            async with shop.engine() as uow:
                return bool(await uow.raw.fetchval("SELECT state = 'succeeded' FROM jobs WHERE id = $1", job_id))

        await eventually(is_done)
    with pytest.raises(Refused, match="no such job"):
        await shop.job(job_id)


@pytest.mark.parametrize("text", ["a\x00b", "half \ud800 pair"])
async def test_an_error_that_the_database_cannot_hold_ends_its_job(shop: Workshop, text: str) -> None:
    shop.types["bad"] = job_type("bad", failing(Refused("bad_file", f"the file says {text}")))
    async with shop.running():
        job = await shop.until(await shop.enqueue("bad"), "failed")
    assert (job.error_code, job.attempt) == ("bad_file", 1)
    assert "the file says" in (job.error or "")


class _Unspeakable(Exception):
    def __str__(self) -> str:
        raise ValueError


async def test_an_error_that_cannot_be_told_is_an_error(shop: Workshop) -> None:
    shop.types["bad"] = job_type("bad", failing(_Unspeakable()), max_attempts=1)
    async with shop.running():
        job = await shop.until(await shop.enqueue("bad"), "failed")
    assert job.error_code == "broken"


async def test_an_end_that_the_database_does_not_take_is_a_failure_and_not_run_for_ever(shop: Workshop) -> None:
    async def run(context: JobContext, _arguments: Any) -> None:
        await context.progress(1)
        await context.progress(2**70)

    shop.types["bad"] = job_type("bad", run)
    async with shop.running():
        job = await shop.until(await shop.enqueue("bad"), "failed")
    assert (job.error_code, job.attempt) == ("ending_not_kept", 1)


async def test_a_note_is_kept_without_secrets_and_without_what_cannot_be_kept(shop: Workshop) -> None:
    async def run(context: JobContext, _arguments: Any) -> None:
        await context.progress(1, 2, "line a\x00b password=hunter2")

    shop.types["noting"] = job_type("noting", run, max_attempts=1)
    async with shop.running():
        job = await shop.until(await shop.enqueue("noting"), "succeeded", "failed")
    assert job.progress is not None
    assert job.progress.note == "line a\ufffdb password=[redacted]"
