"""F28, F42: database sessions are ended in the middle of their work, again and again; writes of the API are undone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.drill import SCALE, Drill
from tests.kit.scenarios import sessions
from tests.kit.standstills import SURVIVORS_LEASE_S

pytestmark = pytest.mark.timeout(900 + 60 * SCALE)


async def test_whoever_loses_the_session_in_the_middle_of_a_transaction_does_it_again_as_a_whole(
    tmp_path: Path,
) -> None:
    async with Drill.open(tmp_path) as drill:
        assert await sessions.cut_in_the_middle(drill) == []


async def test_work_goes_on_while_sessions_are_ended_again_and_again(tmp_path: Path) -> None:
    async with Drill.open(tmp_path, lease_s=SURVIVORS_LEASE_S) as drill:
        assert await sessions.cut_again_and_again(drill, cuts=6 * SCALE) == []


async def test_a_submission_that_a_deadlock_undoes_is_answered_as_if_nothing_had_been(tmp_path: Path) -> None:
    async with Drill.open(tmp_path) as drill:
        assert await sessions.statements_of_the_api_fail(drill, calls=30 * SCALE) == []
