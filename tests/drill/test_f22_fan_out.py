"""F22, F24: campaigns whose workers are killed while they are fanned out or sent reach everybody once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.drill import SCALE, Drill
from tests.kit.scenarios import fan_out

pytestmark = pytest.mark.timeout(900 * SCALE)
COUNT = min(20_000 if SCALE == 1 else 50_000 * SCALE, 1_000_000)
"""A million before a release."""
HALF = COUNT // fan_out.PAGE // 2
"""Pages."""


async def test_a_fan_out_killed_between_rows_and_checkpoint_and_after_it_reaches_everybody_once(tmp_path: Path) -> None:
    kills = ("fan_out.before_checkpoint:3", f"fan_out.committed:{HALF - 2}", "fan_out.before_checkpoint:1")
    async with Drill.open(tmp_path) as drill:
        assert await fan_out.killed_while_expanding(drill, count=COUNT, kills=kills, sends=True) == []


async def test_an_address_that_moves_and_a_checkpoint_that_goes_back_reach_nobody_twice(tmp_path: Path) -> None:
    async with Drill.open(tmp_path) as drill:
        assert await fan_out.address_moves_meanwhile(drill) == []


async def test_a_campaign_is_not_finished_before_its_last_message_is(tmp_path: Path) -> None:
    async with Drill.open(tmp_path) as drill:
        assert await fan_out.restarted_when_all_is_queued(drill) == []
