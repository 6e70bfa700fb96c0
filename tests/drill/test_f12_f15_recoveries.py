"""F12, F15, F16: a machine that was lost takes its part again; messages that end who works on them fail alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.drill import GUARANTEES, SCALE, Drill, Guarantee
from tests.kit.scenarios import recoveries

_MANY = 2_000 if SCALE == 1 else 5_000 * SCALE
pytestmark = pytest.mark.timeout(900 * SCALE)


@pytest.mark.parametrize("guarantee", GUARANTEES)
async def test_a_machine_that_was_lost_takes_its_part_again(guarantee: Guarantee, tmp_path: Path) -> None:
    async with Drill.open(tmp_path, lease_s="3", claim_batch="20") as drill:
        assert await recoveries.machine_comes_back(drill, guarantee) == []


async def test_a_message_that_ends_who_renders_it_fails_alone(tmp_path: Path) -> None:
    async with Drill.open(tmp_path) as drill:
        assert await recoveries.one_message_is_too_much(drill) == []


async def test_three_messages_that_end_their_workers_are_set_aside_and_thousands_of_others_go(tmp_path: Path) -> None:
    async with Drill.open(tmp_path, claim_batch="20") as drill:
        assert await recoveries.messages_end_their_workers(drill, count=_MANY) == []
