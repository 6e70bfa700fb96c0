"""F06, F08, F20, F58, F59: what a journal proves, what it does not, and what becomes of lines that are cut."""

from __future__ import annotations

from pathlib import Path

import pytest

from outrider.base.settings import Settings
from tests.kit.drill import GUARANTEES, Drill, Guarantee
from tests.kit.scenarios import journals

pytestmark = pytest.mark.timeout(900)
LEASE_S = "5"
"""So long that nobody who lives loses one on a busy machine."""


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
    async with Drill.open(tmp_path, lease_s=LEASE_S) as drill:
        assert await journals.machine_rebooted(drill, guarantee) == []


@pytest.mark.parametrize("guarantee", GUARANTEES)
async def test_a_worker_whose_journal_nobody_can_read_is_rescued_by_its_leases(
    guarantee: Guarantee, tmp_path: Path
) -> None:
    async with Drill.open(tmp_path, lease_s=LEASE_S) as drill:
        assert await journals.another_machine_takes_over(drill, guarantee) == []


async def test_as_it_is_installed_a_rescue_takes_three_quarters_of_a_minute_at_most(tmp_path: Path) -> None:
    installed = {name: str(Settings.model_fields[name].default) for name in ("lease_s", "sweep_s", "heartbeat_s")}
    async with Drill.open(tmp_path, **installed) as drill:
        assert await journals.another_machine_takes_over(drill, "at_least_once") == []


@pytest.mark.parametrize("guarantee", GUARANTEES)
async def test_a_line_cut_with_a_message_on_it_costs_that_message_only(guarantee: Guarantee, tmp_path: Path) -> None:
    async with Drill.open(tmp_path) as drill:
        assert await journals.answers_lost(drill, guarantee) == []
