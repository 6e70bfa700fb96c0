"""F77: the first provider goes away under load, the second takes over, the first comes back."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.drill import GUARANTEES, Drill, Guarantee
from tests.kit.scenarios import spare

pytestmark = pytest.mark.timeout(900)


@pytest.mark.parametrize("guarantee", GUARANTEES)
async def test_what_never_left_goes_by_the_second_and_nothing_twice(guarantee: Guarantee, tmp_path: Path) -> None:
    async with Drill.open(tmp_path, **spare.SETTINGS) as drill:
        assert await spare.takes_over(drill, guarantee) == []
