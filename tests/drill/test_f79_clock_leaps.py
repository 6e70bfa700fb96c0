"""F79: machines whose clocks are wrong and a database clock that leaps: nothing early, nothing twice, no pile."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.drill import Drill
from tests.kit.scenarios import schedules

pytestmark = pytest.mark.timeout(900)


async def test_wrong_clocks_fire_nothing_early_and_leaps_make_up_for_one_run_and_repeat_none(tmp_path: Path) -> None:
    async with Drill.open(tmp_path) as drill:
        assert await schedules.clocks_are_wrong(drill, schedules=5) == []
