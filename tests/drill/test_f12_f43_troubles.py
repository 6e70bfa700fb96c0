"""F12, F15, F17-F19, F23, F42, F43: a worker's sibling, renderer, files or statements fail it, or one tenant does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.drill import GUARANTEES, SCALE, Drill, Guarantee
from tests.kit.scenarios import troubles

pytestmark = pytest.mark.timeout(900 * SCALE)


@pytest.mark.parametrize("guarantee", GUARANTEES)
async def test_when_one_of_two_workers_is_lost_the_other_goes_on_alone(guarantee: Guarantee, tmp_path: Path) -> None:
    async with Drill.open(tmp_path, lease_s="3", claim_batch="20") as drill:
        assert await troubles.one_of_two_is_lost(drill, guarantee) == []


async def test_a_renderer_that_the_system_kills_costs_no_message(tmp_path: Path) -> None:
    async with Drill.open(tmp_path) as drill:
        assert await troubles.renderers_are_killed(drill, times=4 * SCALE) == []


async def test_what_breaks_on_one_tenant_stops_no_other(tmp_path: Path) -> None:
    async with Drill.open(tmp_path) as drill:
        assert await troubles.one_tenant_breaks_it(drill) == []


async def test_a_worker_that_stands_still_for_longer_than_its_lease_keeps_what_it_has(tmp_path: Path) -> None:
    async with Drill.open(tmp_path, lease_s="6") as drill:
        assert await troubles.stands_still(drill) == []


async def test_a_worker_that_can_open_nothing_says_so_and_goes_on_when_it_can(tmp_path: Path) -> None:
    async with Drill.open(tmp_path) as drill:
        assert await troubles.files_run_out(drill) == []


async def test_a_campaign_paused_and_resumed_again_and_again_reaches_everybody_once(tmp_path: Path) -> None:
    async with Drill.open(tmp_path) as drill:
        assert await troubles.paused_and_resumed(drill, times=20 * SCALE) == []


async def test_deadlocks_conflicts_and_time_outs_of_statements_lose_and_repeat_nothing(tmp_path: Path) -> None:
    async with Drill.open(tmp_path) as drill:
        assert await troubles.statements_fail(drill) == []
