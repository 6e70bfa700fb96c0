"""Enqueueing: in the caller's transaction or not at all, checked, once per dedup key and planned time, by tenant."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from outrider.base.errors import Refused
from outrider.base.ids import DEFAULT_TENANT
from outrider.data.db import Role
from outrider.domain.jobs import enqueue, search
from tests.kit.jobs import TESTER, Workshop, job_type, workshop

OTHER = UUID("00000000-0000-7000-8000-0000000000aa")
RUNS = "SELECT count(*) FROM outrider_dbos.workflow_status WHERE split_part(workflow_uuid, '/', 2) = $1"


@pytest.fixture(scope="module")
async def shop(new_database: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Workshop]:
    async with workshop(new_database("migrated"), tmp_path_factory.mktemp("jobs")) as made:
        yield made


async def runs(shop: Workshop, job_id: UUID) -> int:
    async with shop.runtime.db.uow(Role.JOBS) as uow:
        return int(await uow.raw.fetchval(RUNS, str(job_id)))


async def test_a_job_and_its_run_exist_together_when_the_caller_commits(shop: Workshop) -> None:
    job_id = await shop.enqueue("echo", {"n": 1})
    job = await shop.job(job_id)
    assert (job.state, job.type, job.queue, job.arguments) == ("enqueued", "echo", "default", {"n": 1, "text": ""})
    assert job.created_by == TESTER.name
    assert await runs(shop, job_id) == 1


async def test_nothing_is_left_when_the_caller_rolls_back(shop: Workshop) -> None:
    made = []

    async def change_of_mind() -> None:
        async with shop.app() as uow:
            made.append(await shop.runtime.jobs.enqueue(uow, TESTER, "echo"))
            raise LookupError

    with pytest.raises(LookupError):
        await change_of_mind()
    assert made[0].is_new
    with pytest.raises(Refused, match="no such job"):
        await shop.job(made[0].id)
    assert await runs(shop, made[0].id) == 0


async def test_an_open_job_with_the_same_dedup_key_is_given_instead_of_another(shop: Workshop) -> None:
    async with shop.app() as uow:
        first = await shop.runtime.jobs.enqueue(uow, TESTER, "echo", dedup_key="one")
        again = await shop.runtime.jobs.enqueue(uow, TESTER, "echo", dedup_key="one")
    assert (first.is_new, again.is_new) == (True, False)
    assert first.id == again.id
    await shop.execute("UPDATE jobs SET state = 'succeeded', finished_at = now() WHERE dedup_key = 'one'")
    assert await shop.enqueue("echo", dedup_key="one") != first.id


async def test_two_callers_at_once_make_one_job_of_one_dedup_key(shop: Workshop) -> None:
    ids = await asyncio.gather(*(shop.enqueue("echo", dedup_key="raced") for _ in range(8)))
    assert len(set(ids)) == 1


async def test_a_planned_time_of_a_schedule_is_enqueued_once_ever(shop: Workshop) -> None:
    schedule, planned = UUID(int=7), datetime(2026, 1, 1, tzinfo=UTC)
    first = await shop.enqueue("echo", schedule_id=schedule, planned_at=planned)
    await shop.execute("UPDATE jobs SET state = 'failed', finished_at = now() WHERE id = $1", first)
    assert await shop.enqueue("echo", schedule_id=schedule, planned_at=planned) == first


async def test_a_job_for_later_is_scheduled_and_has_no_run_yet(shop: Workshop) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    job_id = await shop.enqueue("echo", run_at=later)
    job = await shop.job(job_id)
    assert (job.state, job.run_at) == ("scheduled", later)
    assert await runs(shop, job_id) == 0


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"arguments": {"n": "many"}}, "invalid_arguments"),
        ({"arguments": {"n": 2**64}}, "invalid_arguments"),
        ({"arguments": {"text": "a\x00b"}}, "invalid_arguments"),
        ({"arguments": {"text": "a" * 70_000}}, "invalid_arguments"),
        ({"priority": 10}, "invalid_priority"),
        ({"priority": -1}, "invalid_priority"),
        ({"dedup_key": ""}, "invalid_dedup_key"),
        ({"dedup_key": "a\nb"}, "invalid_dedup_key"),
        ({"queue": "nowhere"}, "unknown_queue"),
        ({"run_at": datetime(2026, 1, 1)}, "invalid_time"),  # noqa: DTZ001 - that is what is refused
    ],
)
async def test_what_cannot_be_is_refused_with_its_field(shop: Workshop, options: dict[str, object], code: str) -> None:
    async with shop.app() as uow:
        with pytest.raises(Refused) as refused:
            await enqueue.enqueue(uow, TESTER, shop.types["echo"], **options)  # type: ignore[arg-type]  # bad on purpose
    assert refused.value.code == code
    assert refused.value.field


async def test_an_unknown_type_is_refused(shop: Workshop) -> None:
    async with shop.app() as uow:
        with pytest.raises(Refused, match="must be one of echo"):
            await shop.runtime.jobs.enqueue(uow, TESTER, "nothing")


async def test_many_are_enqueued_in_one_statement_and_those_there_are_left_out(shop: Workshop) -> None:
    async with shop.app() as uow:
        job = shop.types["echo"]
        first = await enqueue.enqueue_many(uow, TESTER, job, [{"n": n} for n in range(3)], dedup_keys=["a", "b", None])
        second = await enqueue.enqueue_many(uow, TESTER, job, [{"n": n} for n in range(3)], dedup_keys=["a", "b", None])
    assert (len(first), len(second)) == (3, 1)


async def test_a_tenant_sees_and_reaches_its_own_jobs_only(shop: Workshop) -> None:
    mine = await shop.enqueue("echo", {"text": "mine"})
    async with shop.runtime.db.uow(Role.APP, OTHER) as uow:
        assert await search.find(uow, search.Filter(text="mine")) == []
        with pytest.raises(Refused, match="no such job"):
            await search.get(uow, mine)


@pytest.mark.parametrize("door", ["outrider_run_add($1, $2, 1, 'default', 5)", "outrider_run_remove($1, $2, 1)"])
async def test_the_app_role_cannot_touch_runs_of_another_tenant(shop: Workshop, door: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with shop.runtime.db.uow(Role.APP, OTHER) as uow:
            await uow.raw.fetchval(f"SELECT {door}", DEFAULT_TENANT, UUID(int=1))


async def test_a_job_that_ends_while_it_stands_in_the_way_makes_room(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await shop.enqueue("echo", dedup_key="ends now")
    add = enqueue._add

    async def then_it_ends(*arguments: Any, **options: Any) -> list[Any]:
        found = await add(*arguments, **options)
        await shop.execute("UPDATE jobs SET state = 'succeeded', finished_at = now() WHERE id = $1", first)
        return found

    monkeypatch.setattr(enqueue, "_add", then_it_ends)
    second = await shop.enqueue("echo", dedup_key="ends now")
    assert second != first


async def test_a_tenant_enqueues_nothing_that_concerns_every_tenant(shop: Workshop) -> None:
    shop.types["sweep"] = job_type("sweep", shop.types["echo"].run, is_installation=True)
    with pytest.raises(Refused) as refused:
        await shop.enqueue("sweep")
    assert refused.value.code == "unknown_job_type"
