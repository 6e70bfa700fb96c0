"""F93, F94: whoever is small or in a hurry does not wait for whoever is great."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.drill import SCALE, Drill
from tests.kit.scenarios import loads

pytestmark = pytest.mark.timeout(900)


async def test_a_transactional_message_overtakes_a_campaign(tmp_path: Path) -> None:
    async with Drill.open(tmp_path) as drill:
        assert await loads.overtakes(drill) == []


async def test_a_full_queue_refuses_marketing_and_lets_password_mails_through(tmp_path: Path) -> None:
    async with Drill.open(tmp_path) as drill:
        assert await loads.full_queue(drill, most=1000 * SCALE) == []


async def test_tenants_with_one_message_do_not_wait_for_one_with_thousands(tmp_path: Path) -> None:
    async with Drill.open(tmp_path) as drill:
        assert await loads.small_beside_great(drill, tenants=min(100 * SCALE, 1000)) == []
