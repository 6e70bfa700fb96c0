"""F25, F27: schedulers are killed and frozen, the database crashes: every job is done, none lost, repeats fenced.

The full counts of a release, 1,500 jobs over 4 kills and 4,000 over 6 crashes, run with OR_ALL_KILL_POINTS set (about
ten minutes); else fewer of both.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from outrider.domain.contacts.imports.run import BATCH_ROWS
from tests.kit.cluster import Cluster
from tests.kit.drill import Drill
from tests.kit.scenarios import jobs

IS_FULL = bool(os.environ.get("OR_ALL_KILL_POINTS"))
CONCURRENCY = 10
"""Jobs of one scheduler at once: a kill repeats no more than these."""

pytestmark = pytest.mark.timeout(2400 if IS_FULL else 900)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster.open() as made:
        yield made


async def test_jobs_whose_schedulers_are_killed_are_all_done_and_what_is_repeated_is_counted(tmp_path: Path) -> None:
    count, kills = (1500, 4) if IS_FULL else (200, 1)
    async with Drill.open(tmp_path, queue_concurrency=str(CONCURRENCY)) as drill:
        found = await jobs.workers_are_killed(drill, count=count, kills=kills)
        print(found)  # noqa: T201 - the figures of a release run
        assert found.violations == []
        assert found.done == count
        assert found.repeats <= kills * CONCURRENCY


async def test_jobs_over_database_crashes_are_all_done_and_no_scheduler_ends(cluster: Cluster, tmp_path: Path) -> None:
    count, crashes = (4000, 6) if IS_FULL else (300, 2)
    async with Drill.open(tmp_path, url=cluster.url, queue_concurrency=str(CONCURRENCY)) as drill:
        found = await jobs.database_crashes(drill, cluster, count=count, crashes=crashes)
        print(found)  # noqa: T201 - the figures of a release run
        assert found.violations == []
        assert found.done == count
        assert found.repeats <= crashes * 2 * CONCURRENCY


async def test_a_scheduler_that_stood_still_for_too_long_stores_nothing_of_jobs_that_went_on_elsewhere(
    tmp_path: Path,
) -> None:
    async with Drill.open(tmp_path) as drill:
        found = await jobs.frozen(drill, count=5)
        assert found.violations == []
        assert (found.done, found.repeats, found.refused) == (5, 0, 5)


async def test_whoever_takes_over_may_be_killed_too_and_the_next_one_goes_on(tmp_path: Path) -> None:
    async with Drill.open(tmp_path) as drill:
        found = await jobs.takers_over_are_killed(drill, count=5)
        assert found.violations == []
        assert (found.done, found.stored, found.begun) == (5, 5, 10)


async def test_an_import_whose_schedulers_are_killed_stores_every_row_once(tmp_path: Path) -> None:
    async with Drill.open(tmp_path) as drill:
        kills = ("import.batch:2", "import.committed:1")
        assert await jobs.killed_while_importing(drill, count=4 * BATCH_ROWS + 21, kills=kills) == []


async def test_a_schedule_whose_schedulers_are_killed_while_firing_runs_once_per_planned_time(tmp_path: Path) -> None:
    async with Drill.open(tmp_path) as drill:
        assert await jobs.killed_while_firing(drill) == []
