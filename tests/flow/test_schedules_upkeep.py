"""The upkeep of the installation as jobs: each does its work on a real database and says what it did."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from outrider.base.errors import Refused
from outrider.base.ids import NIL
from outrider.contracts.jobs import JobContext, JobType, NoArguments
from outrider.data.runtime import Runtime
from outrider.domain.schedules import read, standing
from outrider.domain.schedules.cron import parse
from tests.kit.api import Api, api_of


@dataclass
class Context:
    """What a job gets, as far as upkeep needs it; keeps what the job said of its progress."""

    runtime: Runtime
    said: list[tuple[int, int | None, str]] = field(default_factory=list)

    async def progress(self, done: int, total: int | None = None, note: str = "") -> None:
        self.said.append((done, total, note))


@pytest.fixture(scope="module")
async def api(new_database: Callable[..., str]) -> AsyncIterator[Api]:
    async with api_of(new_database("migrated")) as running:
        yield running


def upkeep(api: Api) -> dict[str, JobType]:
    return {key: kind for key, kind in api.runtime.jobs.types.items() if kind.standing is not None}


async def run(api: Api, key: str) -> tuple[Any, Context]:
    context = Context(api.runtime)
    result = await upkeep(api)[key].run(cast("JobContext", context), NoArguments())
    return result, context


async def test_every_upkeep_job_is_the_installations_and_has_a_schedule_that_can_be_read(api: Api) -> None:
    found = upkeep(api)
    assert {"partitions", "retention", "audit_heads", "health_check", "clean_files"} <= set(found)
    for kind in found.values():
        assert kind.is_installation, f"{kind.key} would be a tenant's"
        assert kind.arguments is NoArguments
        assert kind.standing is not None
        assert parse(kind.standing.cron).least_gap_minutes() >= 60
    async with api.engine(NIL) as uow:
        await standing.register(uow, api.runtime.jobs.types)
        views = await read.listed(uow, limit=100)
    assert {view.job_type for view in views} == set(found)
    assert len({view.cron for view in views}) == len(views), "they do not all run in the same minute"


async def test_retention_drops_runs_of_schedules_past_their_time_and_says_what_it_dropped(api: Api) -> None:
    async with api.engine(None) as uow:
        schedule_id = await uow.raw.fetchval(
            "INSERT INTO schedules (tenant_id, name, job_type, cron, timezone, grace_s, jitter_s, handled_at, "
            "created_by) VALUES ($1, 'old', 'import_contacts', '0 2 * * *', 'UTC', 60, 0, now(), 'test') RETURNING id",
            NIL,
        )
        for state, age in (("missed", "401 days"), ("succeeded", "399 days"), ("waiting", "500 days")):
            await uow.raw.execute(
                "INSERT INTO schedule_runs (tenant_id, schedule_id, planned_at, trigger, state, actor, recorded_at) "
                f"VALUES ($1, $2, now() - interval '{age}', 'scheduled', $3, 'test', now() - interval '{age}')",
                NIL, schedule_id, state,
            )  # fmt: skip
    dropped, context = await run(api, "retention")
    assert dropped == {"schedule_runs": 1}
    assert {note for _, _, note in context.said} >= {"idempotency_keys", "schedule_runs"}
    async with api.engine(None) as uow:
        left = await uow.raw.fetch("SELECT state FROM schedule_runs WHERE schedule_id = $1", schedule_id)
        await uow.raw.execute("DELETE FROM schedules WHERE id = $1", schedule_id)
    assert {row["state"] for row in left} == {"succeeded", "waiting"}


async def test_partitions_and_audit_heads_and_files_say_what_they_did(api: Api) -> None:
    await run(api, "partitions")  # a month may have ended since the schema was made
    assert (await run(api, "partitions"))[0] == {"made": 0, "dropped": 0}
    assert (await run(api, "audit_heads"))[0]["chains"] >= 1
    assert (await run(api, "clean_files"))[0] == {"unfinished": 0}


async def test_the_health_check_is_silent_when_all_is_well_and_names_what_is_not(api: Api) -> None:
    result, context = await run(api, "health_check")
    assert result == {"findings": 0}
    assert [note for _, _, note in context.said][:2] == ["invariants", "audit chains"]
    assert context.said[-1][0] == context.said[-1][1]
    async with api.engine(None) as uow:
        await uow.raw.execute(
            "INSERT INTO schedules (tenant_id, name, job_type, cron, timezone, grace_s, jitter_s, handled_at, due_at, "
            "next_at, created_by) VALUES ($1, 'late', 'import_contacts', '0 2 * * *', 'UTC', 60, 0, now(), "
            "now() - interval '1 hour', now() - interval '1 hour', 'test')",
            NIL,
        )
        await uow.raw.execute(
            "INSERT INTO workers (id, role, host, boot_id, pid, version, heartbeat_at) "
            "VALUES (gen_random_uuid(), 'worker', 'h', 'b', 4711, 'x', now() - interval '2 minutes')"
        )
    with pytest.raises(Refused) as found:
        await run(api, "health_check")
    assert found.value.code == "health_findings"
    assert "schedules (1): late" in found.value.message
    assert "processes (1): worker 4711 on h is silent" in found.value.message
