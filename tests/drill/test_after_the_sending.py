"""What comes after a message has gone: whoever is killed meanwhile, it is paid once and counts once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.drill import Drill
from tests.kit.scenarios import afterwards

pytestmark = pytest.mark.timeout(900)


async def test_true_prices_take_the_place_of_what_was_reserved_once_whoever_is_killed(tmp_path: Path) -> None:
    async with Drill.open(tmp_path) as drill:
        assert await afterwards.settled_under_kills(drill) == []


async def test_what_comes_back_for_now_counts_once_per_message_whoever_is_killed(tmp_path: Path) -> None:
    async with Drill.open(tmp_path, db_pool_wait_s="60") as drill:  # 503 on a busy machine is no claim of it
        assert await afterwards.bounced_under_kills(drill) == []
