"""F60, F74, F76: a provider that hangs, one that is gone for a while, one whose certificate has expired."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.crooked import Bent
from tests.kit.drill import Drill
from tests.kit.scenarios import partitions

pytestmark = pytest.mark.timeout(900)
HANGS = {"a byte a second": Bent(byte_s=1.0), "forty seconds": Bent(after_s=40.0)}


@pytest.mark.parametrize("how", HANGS)
async def test_a_slow_provider_holds_up_no_other_channel(how: str, tmp_path: Path) -> None:
    async with Drill.open(tmp_path, **partitions.SETTINGS) as drill:
        assert await partitions.slow(drill, HANGS[how]) == []


async def test_what_comes_in_while_the_network_swallows_everything_goes_as_fast_as_ever_after(tmp_path: Path) -> None:
    async with Drill.open(tmp_path, **partitions.SETTINGS) as drill:
        assert await partitions.partition(drill) == []


async def test_nothing_is_handed_over_to_a_server_whose_certificate_has_expired(tmp_path: Path) -> None:
    async with Drill.open(tmp_path, **partitions.SETTINGS) as drill:
        assert await partitions.expired_certificate(drill) == []
