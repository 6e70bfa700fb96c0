"""F20, F26, F27: the database is stopped, crashes, or goes down with the whole machine, under load."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.cluster import Cluster
from tests.kit.drill import SCALE, Drill
from tests.kit.scenarios import databases

pytestmark = pytest.mark.timeout(900 * SCALE)
DOWN_S = min(60.0, 3.0 * SCALE) if SCALE > 1 else 1.0
"""How long the database is away: a minute before a release."""


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster.open(wal_writer_delay="10s") as made:
        yield made


async def test_a_database_stopped_under_load_is_waited_for_and_nothing_is_lost(
    cluster: Cluster, tmp_path: Path
) -> None:
    async with Drill.open(tmp_path, url=cluster.url) as drill:
        assert await databases.goes_away(drill, cluster, cluster.stop, times=1, down_s=DOWN_S) == []


async def test_a_database_that_crashes_under_load_has_everything_that_was_acknowledged(
    cluster: Cluster, tmp_path: Path
) -> None:
    async with Drill.open(tmp_path, url=cluster.url) as drill:
        assert await databases.goes_away(drill, cluster, cluster.crash, times=2 * SCALE) == []


async def test_what_was_acknowledged_directly_before_a_crash_is_there(cluster: Cluster, tmp_path: Path) -> None:
    async with Drill.open(tmp_path, url=cluster.url) as drill:
        assert await databases.crash_after_the_answer(drill, cluster, times=SCALE) == []


async def test_power_loss_costs_what_was_leased_at_most(cluster: Cluster, tmp_path: Path) -> None:
    async with Drill.open(tmp_path, url=cluster.url, lease_s="20") as drill:
        waiting = 1_000 * min(SCALE, 10)
        assert await databases.power_is_lost(drill, cluster, times=SCALE, waiting=waiting) == []


async def test_a_worker_refuses_a_database_that_may_forget_what_it_acknowledged(tmp_path: Path) -> None:
    async with Drill.open(tmp_path) as drill:
        await drill.execute_as_login(
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database()); END $$"
        )
        worker = drill.start_worker()
        assert await worker.ended() not in (0, None)
        assert "synchronous_commit is off" in worker.said()
