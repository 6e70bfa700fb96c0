"""F94: one tenant submits a million, another ten; in CI it is three thousand, with DRILL_SCALE=20 a million."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.drill import SCALE, Drill
from tests.kit.scenarios import fairness

_EACH = 3_000
_MOST = 1_000_000

GREAT = min(_EACH if SCALE == 1 else 50_000 * SCALE, _MOST)
pytestmark = pytest.mark.timeout(900 + GREAT // 50)


async def test_ten_messages_of_a_small_tenant_do_not_wait_for_the_million_of_a_great_one(tmp_path: Path) -> None:
    async with Drill.open(tmp_path) as drill:
        assert await fairness.ten_beside_a_million(drill, great=GREAT) == []
