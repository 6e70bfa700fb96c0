"""F57-F59: a mail server that cannot be reached, that takes a message and never answers, whose answer is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.drill import GUARANTEES, Drill, Guarantee
from tests.kit.scenarios import lines

pytestmark = pytest.mark.timeout(900)


@pytest.mark.parametrize("how", lines.UNREACHABLE)
async def test_what_was_never_handed_over_is_tried_again_and_arrives_once(how: str, tmp_path: Path) -> None:
    async with Drill.open(tmp_path) as drill:
        assert await lines.unreachable(drill, how) == []


@pytest.mark.parametrize("guarantee", GUARANTEES)
async def test_an_answer_that_never_comes_is_kept_to_what_the_sender_promised(
    guarantee: Guarantee, tmp_path: Path
) -> None:
    async with Drill.open(tmp_path) as drill:
        assert await lines.never_answers(drill, guarantee) == []
