"""F22 for waves: workers are killed in every wave, at every look, at the winner's choice; a pace outlives a worker."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.drill import SCALE, Drill
from tests.kit.scenarios import waves

pytestmark = pytest.mark.timeout(900 * SCALE)


async def test_kills_in_every_wave_reach_everybody_once_and_leave_one_winner(tmp_path: Path) -> None:
    async with Drill.open(tmp_path) as drill:
        assert await waves.killed_in_every_wave(drill, count=2_000 * SCALE) == []


async def test_a_pace_holds_for_all_workers_together_over_the_death_of_one_and_a_pause(tmp_path: Path) -> None:
    async with Drill.open(tmp_path, claim_batch="50") as drill:
        assert await waves.paced(drill, count=120, per_minute=1_200) == []
