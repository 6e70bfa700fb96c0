"""Gates while workers die: no gate, budget, rate or warm-up is exceeded by one, nothing permitted is left behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.kit.drill import SCALE, Drill
from tests.kit.scenarios import gates

pytestmark = pytest.mark.timeout(900 * SCALE)


async def test_random_tenants_on_four_workers_that_are_killed_break_no_gate_and_leave_nothing_behind(
    tmp_path: Path,
) -> None:
    seed = int(os.environ.get("DRILL_SEED", "0")) or int.from_bytes(os.urandom(4), "big")
    print(f"DRILL_SEED={seed}")  # noqa: T201 - shown when the test fails
    async with Drill.open(tmp_path) as drill:
        assert await gates.random_tenants(drill, tenants=3 * SCALE, rounds=5 * SCALE, seed=seed) == []
