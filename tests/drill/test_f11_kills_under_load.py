"""F11, F14, F28: workers killed again and again, told to stop, cut off and frozen, under load."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.kit.drill import GUARANTEES, SCALE, Drill, Guarantee
from tests.kit.scenarios import loads

pytestmark = pytest.mark.timeout(900 * SCALE)


def seed_of_this_run() -> int:
    """A new seed, or that of a run to be repeated."""
    seed = int(os.environ.get("DRILL_SEED", "0")) or int.from_bytes(os.urandom(4), "big")
    print(f"DRILL_SEED={seed}")  # noqa: T201 - shown when the test fails
    return seed


@pytest.mark.parametrize("guarantee", GUARANTEES)
async def test_killing_all_workers_again_and_again_loses_nothing_and_repeats_at_most_their_lines(
    guarantee: Guarantee, tmp_path: Path
) -> None:
    seed = seed_of_this_run()
    async with Drill.open(tmp_path) as drill:
        assert await loads.killed_again_and_again(drill, guarantee, rounds=2 * SCALE, seed=seed) == []


@pytest.mark.parametrize("guarantee", GUARANTEES)
async def test_faults_of_every_kind_one_after_the_other_cost_their_lines_at_most(
    guarantee: Guarantee, tmp_path: Path
) -> None:
    seed = seed_of_this_run()
    async with Drill.open(tmp_path) as drill:
        assert await loads.mixed_faults(drill, guarantee, rounds=10 * SCALE, seed=seed) == []


async def test_a_worker_told_to_stop_under_load_ends_well_and_leaves_nothing_in_its_hands(tmp_path: Path) -> None:
    async with Drill.open(tmp_path) as drill:
        assert await loads.ended_in_order(drill) == []


@pytest.mark.parametrize("guarantee", GUARANTEES)
async def test_a_worker_told_to_stop_does_not_wait_for_ever_for_answers(guarantee: Guarantee, tmp_path: Path) -> None:
    async with Drill.open(tmp_path) as drill:
        assert await loads.ended_before_the_answer(drill, guarantee, grace_s="1") == []


async def test_a_worker_as_it_is_installed_ends_by_itself_before_its_half_minute_is_over(tmp_path: Path) -> None:
    async with Drill.open(tmp_path) as drill:
        assert await loads.ended_before_the_answer(drill, "at_most_once") == []
