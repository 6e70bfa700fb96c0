"""F63 to F67: whatever the provider tells, and whoever says so in its place, each message gets what is true, once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.drill import SCALE, Drill
from tests.kit.scenarios import callbacks

pytestmark = pytest.mark.timeout(900 * SCALE)

PATIENT_S = "60"
"""How long a callback waits for a connection: that it is answered 503 on a busy machine is no claim of these."""


async def test_what_is_told_before_our_own_commit_waits_for_it_and_counts(tmp_path: Path) -> None:
    async with Drill.open(tmp_path, db_pool_wait_s=PATIENT_S) as drill:
        assert await callbacks.told_before_our_commit(drill) == []


async def test_what_is_told_a_hundred_times_to_two_nodes_changes_something_once(tmp_path: Path) -> None:
    async with Drill.open(tmp_path, db_pool_wait_s=PATIENT_S) as drill:
        assert await callbacks.told_a_hundred_times(drill, times=100 * SCALE) == []


async def test_all_120_orders_of_five_reports_end_alike_on_two_nodes_and_two_workers(tmp_path: Path) -> None:
    async with Drill.open(tmp_path, db_pool_wait_s=PATIENT_S) as drill:
        assert await callbacks.told_in_every_order(drill) == []


async def test_what_was_genuine_three_days_ago_changes_nothing_now(tmp_path: Path) -> None:
    async with Drill.open(tmp_path, db_pool_wait_s=PATIENT_S) as drill:
        assert await callbacks.told_again_days_later(drill) == []


async def test_forged_ones_are_refused_counted_and_change_nothing(tmp_path: Path) -> None:
    async with Drill.open(tmp_path, db_pool_wait_s=PATIENT_S) as drill:
        assert await callbacks.forged(drill, count=1_000 * SCALE) == []


@pytest.mark.parametrize("point", ["callbacks.before_commit", "callbacks.committed"])
async def test_callbacks_told_to_a_killed_api_count_once(point: str, tmp_path: Path) -> None:
    async with Drill.open(tmp_path, db_pool_wait_s=PATIENT_S) as drill:
        assert await callbacks.killed_around_the_commit(drill, point) == []
