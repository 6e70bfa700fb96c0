"""F18: an event loop that stands still is told of with its place, counted, and taken for no death."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.drill import GUARANTEES, Drill, Guarantee, boot_ns
from tests.kit.scenarios import standstill
from tests.kit.standstills import stood_still_s

pytestmark = pytest.mark.timeout(600)


@pytest.mark.parametrize("point", ["send.before_bytes:20", "record.before_commit:1"])
@pytest.mark.parametrize("guarantee", GUARANTEES)
async def test_a_worker_that_stands_still_says_where_and_keeps_what_it_has(
    guarantee: Guarantee, point: str, tmp_path: Path
) -> None:
    found: list[str] = []
    for folder in (tmp_path / "once", tmp_path / "again"):
        folder.mkdir()
        async with Drill.open(folder, lease_s=str(standstill.LEASE_S)) as drill:
            began_ns = boot_ns()
            found = await standstill.of_a_worker(drill, guarantee, point)
            stood_s = stood_still_s(began_ns)
        # a machine that stands still ends leases that nobody could renew: who goes on first decides
        if not found or stood_s < standstill.LEASE_S / 2:
            break
    assert found == []


async def test_an_api_that_stands_still_says_where_and_answers_afterwards(tmp_path: Path) -> None:
    async with Drill.open(tmp_path) as drill:
        assert await standstill.of_the_api(drill) == []


async def test_every_process_that_stays_tells_how_often_it_stood_still(tmp_path: Path) -> None:
    async with Drill.open(tmp_path) as drill:
        assert await standstill.of_nobody(drill) == []
