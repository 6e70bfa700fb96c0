"""F84-F86: whatever stops sending stops it: from the return of the command to the last acceptance at most a second."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.cluster import Cluster
from tests.kit.drill import SCALE, Drill
from tests.kit.scenarios import stops, switches

pytestmark = pytest.mark.timeout(900 * SCALE)


async def test_every_scope_stops_within_a_second_at_rate_and_goes_on_without_loss_or_repetition(tmp_path: Path) -> None:
    async with Drill.open(tmp_path) as drill:
        assert await switches.kill_switch_at_rate(drill, waiting=2500 * SCALE) == []


async def test_a_pause_in_the_middle_of_a_batch_keeps_the_rest_of_it(tmp_path: Path) -> None:
    async with Drill.open(tmp_path) as drill:
        assert await switches.paused_in_the_middle_of_a_batch(drill) == []


async def test_no_lease_begins_after_a_pause_has_returned(tmp_path: Path) -> None:
    async with Drill.open(tmp_path) as drill:
        assert await switches.paused_during_a_claim(drill) == []


async def test_who_says_stop_is_not_written_to_although_the_message_was_claimed(tmp_path: Path) -> None:
    async with Drill.open(tmp_path) as drill:
        assert await switches.stop_said_after_the_claim(drill) == []


async def test_stop_unsubscribes_and_complaints_hold_for_what_several_workers_have_in_hand(tmp_path: Path) -> None:
    async with Drill.open(tmp_path, claim_batch=stops.CLAIM_BATCH) as drill:
        assert await stops.said_while_claimed(drill) == []


async def test_looking_at_an_unsubscribe_link_keeps_nobody_from_the_next_letter(tmp_path: Path) -> None:
    async with Drill.open(tmp_path) as drill:
        assert await stops.only_looked_at(drill) == []


async def test_the_emergency_file_stops_workers_while_the_database_is_down_and_when_it_is_back(tmp_path: Path) -> None:
    with Cluster.open() as cluster:
        async with Drill.open(tmp_path, url=cluster.url) as drill:
            assert await switches.emergency_file(drill, cluster) == []
