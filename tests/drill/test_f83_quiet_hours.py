"""F79, F83: quiet hours begin under load; a worker's clock leaps and drifts: nothing early, nothing late."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.drill import SCALE, Drill
from tests.kit.scenarios import hours

pytestmark = pytest.mark.timeout(900)


async def test_what_quiet_hours_overtake_is_held_here_and_given_up_by_the_provider(tmp_path: Path) -> None:
    found: list[str] = []
    for folder in (tmp_path / "once", tmp_path / "again"):
        folder.mkdir()
        async with Drill.open(folder) as drill:
            found = await hours.quiet_begins(drill, in_s=9, count=500 * SCALE)
        if found != [hours.STOOD_STILL]:
            break
    assert found == []


async def test_a_worker_whose_clock_leaps_and_drifts_sends_nothing_early_and_no_pile(tmp_path: Path) -> None:
    async with Drill.open(tmp_path) as drill:
        assert await hours.clock_leaps(drill) == []
