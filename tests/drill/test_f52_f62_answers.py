"""F52, F56, F61, F62: what a provider answers: no for good, not now, nonsense, and the same id for two messages."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.kit.drill import GUARANTEES, Drill, Guarantee
from tests.kit.scenarios import answers

pytestmark = pytest.mark.timeout(900)
SEED = int(os.environ.get("DRILL_SEED", "7"))


async def test_what_is_refused_for_good_is_tried_once_and_says_why(tmp_path: Path) -> None:
    async with Drill.open(tmp_path, **answers.SETTINGS) as drill:
        assert await answers.refused_for_good(drill) == []


@pytest.mark.parametrize("guarantee", GUARANTEES)
async def test_a_provider_that_fails_every_second_time_gets_no_storm_and_nothing_arrives_twice(
    guarantee: Guarantee, tmp_path: Path
) -> None:
    async with Drill.open(tmp_path, **answers.SETTINGS) as drill:
        assert await answers.every_second_fails(drill, SEED, guarantee) == []


@pytest.mark.parametrize("guarantee", GUARANTEES)
async def test_an_answer_that_is_none_is_never_taken_for_a_yes(guarantee: Guarantee, tmp_path: Path) -> None:
    async with Drill.open(tmp_path, **answers.SETTINGS) as drill:
        assert await answers.nonsense(drill, guarantee) == []


async def test_one_id_for_two_messages_is_stored_and_told_and_no_report_crosses(tmp_path: Path) -> None:
    async with Drill.open(tmp_path, **answers.SETTINGS) as drill:
        assert await answers.same_id(drill) == []
