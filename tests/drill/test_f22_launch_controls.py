"""F22 for scheduled launches, the end of the undo time and retries: killed there, everybody still gets it once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.drill import SCALE, Drill
from tests.kit.scenarios import launching

pytestmark = pytest.mark.timeout(900 * SCALE)


@pytest.mark.parametrize("at", ["launch.before_commit", "launch.committed"])
async def test_a_scheduled_campaign_whose_worker_dies_at_its_launch_is_launched_once(tmp_path: Path, at: str) -> None:
    async with Drill.open(tmp_path) as drill:
        assert await launching.killed_at_a_scheduled_launch(drill, at=at) == []


@pytest.mark.parametrize("at", ["fan_out.before_checkpoint", "fan_out.committed"])
async def test_what_was_taken_back_stays_so_and_what_was_not_goes_once(tmp_path: Path, at: str) -> None:
    async with Drill.open(tmp_path) as drill:
        assert await launching.killed_when_the_undo_ends(drill, at=at) == []


@pytest.mark.parametrize("at", ["retry.before_checkpoint", "retry.committed"])
async def test_a_retry_killed_between_its_pages_reaches_who_failed_once(tmp_path: Path, at: str) -> None:
    async with Drill.open(tmp_path) as drill:
        assert await launching.killed_while_retrying(drill, at=at) == []
