"""What people do to jobs: requeue, cancel, delete, one or many with the count first, searched for, and audited."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from outrider.base.errors import Refused
from outrider.base.ids import NIL
from outrider.data.db import UnitOfWork
from outrider.domain.jobs import change, queues, search, stats
from outrider.domain.jobs.search import Filter
from tests.kit.jobs import TESTER, Workshop, workshop


@pytest.fixture(scope="module")
async def house(new_database: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Workshop]:
    async with workshop(new_database("migrated"), tmp_path_factory.mktemp("jobs")) as made:
        yield made


@pytest.fixture
async def shop(house: Workshop) -> Workshop:
    """No jobs, and queues as they come."""
    await house.execute("DELETE FROM jobs")
    await house.execute("UPDATE job_queues SET paused_at = NULL, closed_at = NULL, concurrency = NULL")
    return house


async def failed(shop: Workshop, **options: object) -> UUID:
    job_id = await shop.enqueue("echo", **options)  # type: ignore[arg-type]  # passed on
    await shop.execute(
        "UPDATE jobs SET state = 'failed', finished_at = now(), attempt = 3, crashes = 2, error = 'x' WHERE id = $1",
        job_id,
    )
    return job_id


async def entries(shop: Workshop, action: str) -> list[str]:
    async with shop.engine() as uow:
        rows = await uow.raw.fetch("SELECT details::text AS details FROM audit_log WHERE action = $1", action)
    return [row["details"] for row in rows]


async def test_a_failed_job_is_requeued_with_a_fresh_budget_while_nothing_runs(shop: Workshop) -> None:
    job_id = await failed(shop)
    async with shop.app() as uow:
        assert (await change.requeue(uow, TESTER, job_id)).ids == (job_id,)
    job = await shop.job(job_id)
    assert (job.state, job.reason, job.attempt, job.crashes, job.error) == ("enqueued", "Manual retry", 0, 0, None)
    assert any(str(job_id) in details for details in await entries(shop, "job.requeue"))


@pytest.mark.parametrize("state", ["enqueued", "scheduled", "processing", "succeeded"])
async def test_only_failed_and_deleted_jobs_are_requeued(shop: Workshop, state: str) -> None:
    job_id = await shop.enqueue("echo")
    await shop.execute("UPDATE jobs SET state = $2 WHERE id = $1", job_id, state)
    async with shop.app() as uow:
        with pytest.raises(Refused, match="only failed or deleted"):
            await change.requeue(uow, TESTER, job_id)
    assert (await shop.job(job_id)).state == state


async def test_a_job_whose_twin_is_open_is_not_requeued(shop: Workshop) -> None:
    job_id = await failed(shop, dedup_key="twin")
    await shop.enqueue("echo", dedup_key="twin")
    async with shop.app() as uow:
        with pytest.raises(Refused, match="same dedup key"):
            await change.requeue(uow, TESTER, job_id)


async def test_a_waiting_job_is_cancelled_at_once_and_stays_visible_with_the_reason(shop: Workshop) -> None:
    job_id = await shop.enqueue("echo")
    async with shop.app() as uow:
        done = await change.cancel(uow, TESTER, job_id, "not needed")
    job = await shop.job(job_id)
    assert (done.ids, job.state, job.reason) == ((job_id,), "deleted", "cancelled: not needed")
    assert await shop.words(job_id) == ["enqueued", "deleted"]
    async with shop.app() as uow:
        with pytest.raises(Refused, match="ended already"):
            await change.cancel(uow, TESTER, job_id)


async def test_cancelling_a_running_job_asks_its_worker_and_asking_again_is_no_error(shop: Workshop) -> None:
    job_id = await shop.enqueue("echo")
    await shop.execute("UPDATE jobs SET state = 'processing' WHERE id = $1", job_id)
    for asked in ((job_id,), ()):
        async with shop.app() as uow:
            done = await change.cancel(uow, TESTER, job_id, "stop it")
        assert (done.ids, done.asked) == ((), asked)
    job = await shop.job(job_id)
    assert (job.state, job.cancel_by, job.cancel_reason) == ("processing", TESTER.name, "stop it")


async def test_what_is_deleted_is_listed_in_the_audit_log(shop: Workshop) -> None:
    ids = {await failed(shop) for _ in range(3)}
    async with shop.app() as uow:
        found = await search.select(uow, Filter(states=["failed"]))
        assert (found.count, set(found.ids)) == (3, ids)
        done = await change.delete_many(uow, TESTER, Filter(states=["failed"]), expected=3, reason="clearing")
    assert set(done.ids) == ids
    (entry,) = [details for details in await entries(shop, "job.delete") if str(min(ids)) in details]
    assert all(str(each) in entry for each in ids)
    assert {(await shop.job(each)).reason for each in ids} == {"withdrawn: clearing"}


async def test_many_are_changed_only_if_the_count_is_still_what_the_person_saw(shop: Workshop) -> None:
    await failed(shop)
    async with shop.app() as uow:
        with pytest.raises(Refused) as refused:
            await change.requeue_many(uow, TESTER, Filter(), expected=2)
    assert (refused.value.code, refused.value.data["count"]) == ("count_changed", 1)


async def test_many_touch_only_states_that_the_verb_is_for(shop: Workshop) -> None:
    waiting, ended = await shop.enqueue("echo"), await failed(shop)
    async with shop.app() as uow:
        assert (await change.cancel_many(uow, TESTER, Filter(), expected=1)).ids == (waiting,)
    assert (await shop.job(ended)).state == "failed"


async def test_jobs_are_found_by_type_state_argument_text_queue_and_time(shop: Workshop) -> None:
    first = await shop.enqueue("echo", {"n": 1, "text": "Winter"}, queue="report")
    second = await failed(shop)
    now = datetime.now(UTC)
    for wanted, found in (
        (Filter(argument={"n": 1}), [first]),
        (Filter(text="winter"), [first]),
        (Filter(queues=["report"]), [first]),
        (Filter(states=["failed"]), [second]),
        (Filter(types=["echo"]), [second, first]),
        (Filter(types=["other"]), []),
        (Filter(since=now + timedelta(minutes=1)), []),
        (Filter(until=now - timedelta(minutes=1)), []),
    ):
        async with shop.app() as uow:
            assert [job.id for job in await search.find(uow, wanted)] == found, wanted
            assert (await search.select(uow, wanted)).count == len(found), wanted


async def test_lists_go_on_after_the_last_id(shop: Workshop) -> None:
    ids = [await shop.enqueue("echo") for _ in range(5)]
    async with shop.app() as uow:
        first = await search.find(uow, Filter(), limit=3)
        rest = await search.find(uow, Filter(), limit=3, before=first[-1].id)
    assert [job.id for job in [*first, *rest]] == ids[::-1]


async def test_a_closed_queue_takes_nothing_and_says_why_until_it_is_resumed(shop: Workshop) -> None:
    ended = await failed(shop)
    async with shop.engine(NIL) as uow:
        await queues.close(uow, TESTER, "default", "drained for an upgrade")
    async with shop.app() as uow:
        with pytest.raises(Refused, match="drained for an upgrade"):
            await shop.runtime.jobs.enqueue(uow, TESTER, "echo")
    async with shop.app() as uow:
        with pytest.raises(Refused, match="takes no jobs"):
            await change.requeue(uow, TESTER, ended)
    async with shop.engine(NIL) as uow:
        assert (await queues.resume(uow, TESTER, "default")).closed_at is None
    await shop.enqueue("echo")


async def test_queues_are_changed_with_an_audit_entry_in_the_installations_chain(shop: Workshop) -> None:
    async with shop.engine(NIL) as uow:
        changed = await queues.set_concurrency(uow, TESTER, "report", concurrency=3, worker_concurrency=2)
        paused = await queues.pause(uow, TESTER, "report", "first")
        again = await queues.pause(uow, TESTER, "report", "second")
    assert (changed.concurrency, changed.worker_concurrency) == (3, 2)
    assert (paused.pause_reason, again.pause_reason) == ("first", "first")
    async with shop.engine() as uow:
        rows = await uow.raw.fetch("SELECT DISTINCT tenant_id FROM audit_log WHERE action LIKE 'queue.%'")
    assert [row["tenant_id"] for row in rows] == [NIL]
    for wrong in (0, 1001):
        async with shop.engine(NIL) as uow:
            with pytest.raises(Refused, match="must be 1 to 1000"):
                await queues.set_concurrency(uow, TESTER, "report", concurrency=wrong, worker_concurrency=None)


@pytest.mark.parametrize("name", ["", "A", "1a", "a b", "a" * 41, "ä", "a;b"])
async def test_a_queue_has_a_plain_name(shop: Workshop, name: str) -> None:
    async with shop.engine(NIL) as uow:
        with pytest.raises(Refused, match="small letters"):
            await queues.add(uow, TESTER, name)


async def test_figures_count_by_state_and_say_how_long_the_oldest_has_waited(shop: Workshop) -> None:
    await shop.enqueue("echo")
    await failed(shop)
    await shop.execute("UPDATE jobs SET waiting_since = now() - interval '90 seconds' WHERE state = 'enqueued'")
    async with shop.engine() as uow:
        (depth,) = [each for each in await stats.figures(uow) if each.queue.name == "default"]
        assert await stats.held(uow) == {"default": {"enqueued": 1}}
    assert (depth.counts["enqueued"], depth.counts["failed"], depth.open_count) == (1, 1, 1)
    assert 90 <= depth.oldest_s < 120


async def waits_for_a_lock(shop: Workshop) -> None:
    async with asyncio.timeout(90), shop.engine() as uow:
        while not await uow.raw.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):  # noqa: ASYNC110 - locks set no event
            await asyncio.sleep(0.01)


async def test_a_failed_job_that_was_deleted_meanwhile_is_not_retried(shop: Workshop) -> None:
    job_id = await failed(shop)
    async with shop.app() as uow:
        await change.delete(uow, TESTER, job_id, "it must never run again")
    async with shop.app() as uow:
        with pytest.raises(Refused, match="only failed jobs can be requeued; it is deleted"):
            await change.requeue(uow, TESTER, job_id, states=("failed",))
    assert (await shop.job(job_id)).state == "deleted"


async def test_of_failed_jobs_those_deleted_since_they_were_counted_are_not_retried(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, gone = await failed(shop), await failed(shop)
    select = search.select

    async def then_one_is_deleted(uow: UnitOfWork, wanted: Filter, **more: Any) -> search.Selection:
        found = await select(uow, wanted, **more)
        async with shop.app() as other:
            await change.delete(other, TESTER, gone)
        return found

    monkeypatch.setattr(search, "select", then_one_is_deleted)
    async with shop.app() as uow:
        done = await change.requeue_many(uow, TESTER, Filter(states=["failed"]), expected=2)
    assert done.ids == (kept,)
    assert (await shop.job(gone)).state == "deleted"


async def test_of_ended_jobs_with_one_dedup_key_one_goes_back(shop: Workshop) -> None:
    older, younger = await failed(shop, dedup_key="same"), await failed(shop, dedup_key="same")
    other = await failed(shop, dedup_key="another")
    async with shop.app() as uow:
        done = await change.requeue_many(uow, TESTER, Filter(states=["failed"]), expected=3)
    assert set(done.ids) == {younger, other}
    assert (await shop.job(older)).state == "failed"


async def test_a_twin_enqueued_in_the_same_moment_refuses_the_retry(shop: Workshop) -> None:
    job_id = await failed(shop, dedup_key="raced")

    async def retry() -> None:
        async with shop.app() as uow:
            await change.requeue(uow, TESTER, job_id)

    async with shop.app() as uow:
        await shop.runtime.jobs.enqueue(uow, TESTER, "echo", dedup_key="raced")
        retrying = asyncio.create_task(retry())
        await waits_for_a_lock(shop)
    with pytest.raises(Refused, match="same dedup key") as refused:
        await retrying
    assert refused.value.code == "queue_closed"
    assert (await shop.job(job_id)).state == "failed"


async def test_a_unit_of_work_goes_on_after_a_twin_refused_one_of_its_retries(shop: Workshop) -> None:
    raced, other = await failed(shop, dedup_key="raced"), await failed(shop)

    async def retry_both() -> None:
        async with shop.app() as uow:
            with pytest.raises(Refused, match="same dedup key"):
                await change.requeue(uow, TESTER, raced)
            await change.requeue(uow, TESTER, other)

    async with shop.app() as uow:
        await shop.runtime.jobs.enqueue(uow, TESTER, "echo", dedup_key="raced")
        retrying = asyncio.create_task(retry_both())
        await waits_for_a_lock(shop)
    await retrying
    assert [(await shop.job(each)).state for each in (raced, other)] == ["failed", "enqueued"]


@pytest.mark.parametrize(
    "wanted",
    [
        Filter(types=["a\x00b"]),
        Filter(queues=["a\x00b"]),
        Filter(text="a\x00b"),
        Filter(text="\udcff"),
        Filter(types=["\udcff"]),
        Filter(argument={"n": "\udcff"}),
        Filter(argument={"n": "\x00"}),
    ],
)
async def test_a_filter_that_no_row_can_match_is_refused(shop: Workshop, wanted: Filter) -> None:
    async with shop.app() as uow:
        with pytest.raises(Refused):
            await search.select(uow, replace(wanted, states=["failed"]))
