"""F21: several schedulers at once, started twice, standing still, killed: each planned time becomes one job."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kit.drill import SCALE, Drill
from tests.kit.scenarios import schedules
from tests.kit.timetable import open_timetable

pytestmark = pytest.mark.timeout(900 * SCALE)
MANY = 10_000 if SCALE > 1 else 2_000
_DUE_AT_ONCE = """
INSERT INTO schedules (tenant_id, name, job_type, cron, timezone, grace_s, jitter_s, handled_at, next_at, due_at,
                       created_by)
SELECT '00000000-0000-0000-0000-000000000001', 's' || n, 'note', '0 0 * * *', 'UTC', 60, 10, '2026-11-20T23:00Z',
       '2026-11-21T00:00Z', timestamptz '2026-11-21T00:00Z' + random() * interval '10 seconds', 'test'
FROM generate_series(1, $1::int) n
"""


async def test_three_schedulers_at_once_one_standing_still_and_one_killed_run_each_planned_time_once(
    tmp_path: Path,
) -> None:
    async with Drill.open(tmp_path, statement_timeout_s="2") as drill:
        assert await schedules.started_twice(drill, schedules=10, minutes=4 * SCALE) == []


async def test_ten_thousand_due_at_once_are_enqueued_within_a_minute_by_two_schedulers_once_each(
    new_database: Callable[..., str],
) -> None:
    async with open_timetable(new_database("migrated")) as table:
        table.at("2026-11-20T23:59:00Z")
        async with table.engine() as uow:
            await uow.raw.execute(_DUE_AT_ONCE, MANY)
        table.at("2026-11-21T00:00:11Z")

        async def work(fire: Callable[[], object]) -> None:
            while await fire():  # type: ignore[misc]  # a coroutine function
                pass

        async with asyncio.timeout(60):  # the promise itself, and a bound on waiting
            await asyncio.gather(work(table.firing.fire), work(table.another().fire))
        async with table.engine() as uow:
            jobs = await uow.raw.fetchrow("SELECT count(*) n, count(DISTINCT schedule_id) m FROM jobs")
            assert jobs is not None
            assert (jobs["n"], jobs["m"]) == (MANY, MANY)
            assert not await uow.raw.fetchval("SELECT count(*) FROM schedules WHERE due_at <= outrider_now()")
