"""F18: an event loop that stands still is told of with its place, counted, and taken for no death."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.drill import GUARANTEES, Drill, Guarantee
from tests.kit.scenarios import standstill

pytestmark = pytest.mark.timeout(600)


@pytest.mark.parametrize("point", ["send.before_bytes:20", "record.before_commit:1"])
@pytest.mark.parametrize("guarantee", GUARANTEES)
async def test_a_worker_that_stands_still_says_where_and_keeps_what_it_has(
    guarantee: Guarantee, point: str, tmp_path: Path
) -> None:
    async with Drill.open(tmp_path, lease_s="5") as drill:
        assert await standstill.of_a_worker(drill, guarantee, point) == []


async def test_an_api_that_stands_still_says_where_and_answers_afterwards(tmp_path: Path) -> None:
    async with Drill.open(tmp_path) as drill:
        assert await standstill.of_the_api(drill) == []


async def test_every_process_that_stays_tells_how_often_it_stood_still(tmp_path: Path) -> None:
    async with Drill.open(tmp_path) as drill:
        assert await standstill.of_nobody(drill) == []
