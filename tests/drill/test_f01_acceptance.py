"""F01-F03: the API is killed around the commit of a request; who asks again under the same key gets the one answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.drill import Drill
from tests.kit.scenarios import acceptance

pytestmark = pytest.mark.timeout(900)


@pytest.mark.parametrize(
    ("point", "count"), [("accept.before_commit", 1), ("accept.committed", 1), ("accept.before_commit", 1000)]
)
async def test_a_request_whose_answer_was_killed_is_accepted_once(point: str, count: int, tmp_path: Path) -> None:
    async with Drill.open(tmp_path) as drill:
        assert await acceptance.killed_around_the_commit(drill, point, count=count) == []


async def test_a_hundred_equal_requests_over_two_processes_one_killed_are_one_message(tmp_path: Path) -> None:
    async with Drill.open(tmp_path) as drill:
        assert await acceptance.asked_in_parallel(drill, calls=100) == []
