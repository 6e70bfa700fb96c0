"""F08, F20, F58, F59: what a journal proves, what it does not, and what becomes of lines that are cut."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.drill import GUARANTEES, Drill, Guarantee
from tests.kit.scenarios import journals

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize("guarantee", GUARANTEES)
async def test_a_worker_killed_while_the_server_thinks_leaves_just_those_messages_in_doubt(
    guarantee: Guarantee, tmp_path: Path
) -> None:
    async with Drill.open(tmp_path) as drill:
        assert await journals.killed_with_lines_in_flight(drill, guarantee) == []


@pytest.mark.parametrize("guarantee", GUARANTEES)
async def test_a_journal_of_another_boot_is_not_believed_and_the_leases_decide(
    guarantee: Guarantee, tmp_path: Path
) -> None:
    async with Drill.open(tmp_path, lease_s="2") as drill:
        assert await journals.machine_rebooted(drill, guarantee) == []


@pytest.mark.parametrize("guarantee", GUARANTEES)
async def test_a_worker_whose_journal_nobody_can_read_is_rescued_by_its_leases(
    guarantee: Guarantee, tmp_path: Path
) -> None:
    async with Drill.open(tmp_path, lease_s="2") as drill:
        assert await journals.another_machine_takes_over(drill, guarantee) == []


@pytest.mark.parametrize("guarantee", GUARANTEES)
async def test_a_line_cut_with_a_message_on_it_costs_that_message_only(guarantee: Guarantee, tmp_path: Path) -> None:
    async with Drill.open(tmp_path) as drill:
        assert await journals.answers_lost(drill, guarantee) == []
