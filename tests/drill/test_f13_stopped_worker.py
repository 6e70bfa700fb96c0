"""F13: a worker is stopped for longer than its lease and continued: it drops what is no longer its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.drill import GUARANTEES, Drill, Guarantee
from tests.kit.scenarios import leases

pytestmark = pytest.mark.timeout(900)


@pytest.mark.parametrize("guarantee", GUARANTEES)
async def test_a_worker_stopped_beyond_its_lease_sends_nothing_of_it_any_more(
    guarantee: Guarantee, tmp_path: Path
) -> None:
    async with Drill.open(tmp_path, lease_s=leases.LEASE_S) as drill:
        assert await leases.frozen_worker(drill, guarantee) == []


async def test_a_pause_of_a_worker_with_one_line_costs_one_duplicate_at_most(tmp_path: Path) -> None:
    async with Drill.open(tmp_path, lease_s=leases.LEASE_S) as drill:
        assert await leases.frozen_worker(drill, "at_least_once", connections=1) == []


async def test_a_refusal_that_comes_after_the_sweep_does_not_decide_over_the_second_attempt(tmp_path: Path) -> None:
    async with Drill.open(tmp_path, lease_s=leases.LEASE_S) as drill:
        assert await leases.stale_outcome(drill) == []


async def test_what_a_late_worker_gives_back_stays_with_the_worker_that_has_it_now(tmp_path: Path) -> None:
    async with Drill.open(tmp_path, lease_s=leases.LEASE_S) as drill:
        assert await leases.stale_hand_back(drill) == []


async def test_rows_that_somebody_else_has_locked_delay_nobody(tmp_path: Path) -> None:
    async with Drill.open(tmp_path) as drill:
        assert await leases.rows_locked_by_another(drill) == []
