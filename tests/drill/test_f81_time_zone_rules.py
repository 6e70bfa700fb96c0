"""F81: rules of the time zones change between planning and firing: the local time is right and comes once a day."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.drill import Drill
from tests.kit.scenarios import schedules

pytestmark = pytest.mark.timeout(900)


async def test_new_rules_of_a_zone_are_followed_at_once_and_give_no_local_day_a_second_run(tmp_path: Path) -> None:
    async with Drill.open(tmp_path) as drill:
        assert await schedules.rules_change(drill) == []
