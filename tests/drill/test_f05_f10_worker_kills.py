"""F05-F10, F16: a worker killed -9 at every step; a sibling finds out from its journal what became of each message."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from tests.kit.drill import GUARANTEES, Drill, Guarantee, Sender
from tests.kit.standby import Standby, standing_by

pytestmark = pytest.mark.timeout(900)
CONNECTIONS = 4
COUNT = 200
NOTHING_BEGUN = (
    "claim.judged:1",
    "claim.before_commit:2",
    "claim.committed:2",
    "render.begun:1",
    "send.before_journal:1",
)
LINES_IN_FLIGHT = (
    "send.before_journal:60",
    "send.before_bytes:60",
    "send.answered:60",
    "record.before_commit:2",
    "record.committed:2",
)


@dataclass(slots=True)
class Ground:
    """One installation in which worker after worker is killed; what the kills so far may have cost."""

    drill: Drill
    standby: Standby
    guarantee: Guarantee
    sender: Sender
    duplicates: int = 0
    uncertain: int = 0

    async def kill_at(self, at: str) -> int:
        """Have a worker kill itself at a point, with messages waiting; gives how many it had begun and not finished."""
        await self.drill.admit(self.sender, COUNT)
        victim = self.drill.start_worker(at=f"{at}:kill")
        await victim.killed(at.partition(":")[0])
        await self.standby.recovered()
        uncertain = len((await self.drill.evidence()).doubtful)
        rescued = await self.drill.value("SELECT count(*) FROM message_events WHERE kind = 'rescued'")
        begun = int(uncertain + rescued) - self.uncertain - self.duplicates
        if self.guarantee == "at_most_once":
            assert not rescued
            self.uncertain += begun
        else:
            assert not uncertain
            self.duplicates += begun
        return begun

    async def violations(self) -> list[str]:
        """What the checker says when the rest has been sent."""
        await self.standby.finish()
        return await self.drill.violations(duplicates=self.duplicates, uncertain=self.uncertain)


@pytest_asyncio.fixture(scope="module", params=GUARANTEES)
async def ground(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ground]:
    async with Drill.open(tmp_path_factory.mktemp("kills"), lanes_in_flight="1", flush_s="0.005") as drill:
        standby = await standing_by(drill)
        yield Ground(drill, standby, request.param, await drill.sender(request.param, connections=CONNECTIONS))


@pytest.mark.parametrize("at", NOTHING_BEGUN)
async def test_a_worker_killed_before_any_byte_costs_nothing_and_what_it_held_is_ready_at_once(
    at: str, ground: Ground
) -> None:
    assert await ground.kill_at(at) == 0
    assert await ground.violations() == []


@pytest.mark.parametrize("at", LINES_IN_FLIGHT)
async def test_a_worker_killed_while_sending_leaves_only_its_lines_in_flight_open(at: str, ground: Ground) -> None:
    taken_before = len(ground.drill.acceptances())
    begun = await ground.kill_at(at)
    assert begun <= CONNECTIONS
    in_doubt = (await ground.drill.evidence()).doubtful
    taken = {acceptance.message_id for acceptance in ground.drill.acceptances()[taken_before:]}
    assert taken, "the kill came while it was sending"
    if at.startswith("send.before_bytes") and ground.guarantee == "at_most_once":
        assert in_doubt - taken, "the one whose bytes never left is in doubt as well"
    assert await ground.violations() == []
    if at.startswith("send.answered") and ground.guarantee == "at_least_once":
        times = (await ground.drill.evidence()).times_accepted()
        assert any(times[each] > 1 for each in taken), "the one whose answer was not recorded was sent again"


async def test_a_message_that_kills_its_worker_three_times_is_set_aside_and_the_others_go(tmp_path: Path) -> None:
    async with Drill.open(tmp_path) as drill:
        sender = await drill.sender("at_least_once")
        (poison,) = await drill.admit(sender, 1)
        for _ in range(3):
            await drill.start_worker(at="render.begun:1:kill").killed("render.begun")
        others = await drill.admit(sender, 20)
        await drill.worker()
        await drill.drained()
        evidence = await drill.evidence()
        assert (evidence.messages[poison].state, evidence.messages[poison].code) == ("failed", "poison")
        assert evidence.in_state("sent") == set(others)
        listed = await asyncio.to_thread(drill.command.run, "poison", "list", "--json")
        assert [row["message_id"] for row in listed.json()] == [str(poison)]
        again = ("poison", "requeue", "--all", "--yes", "--reason", "mended", "--json")
        assert (await asyncio.to_thread(drill.command.run, *again)).json()["requeued"] == [str(poison)]
        await drill.drained()
        assert (await drill.evidence()).in_state("sent") == {poison, *others}
        assert await drill.violations() == []


async def test_a_message_whose_worker_dies_three_times_after_its_bytes_left_is_not_called_failed(
    tmp_path: Path,
) -> None:
    async with Drill.open(tmp_path) as drill:
        (only,) = await drill.admit(await drill.sender("at_least_once"), 1)
        for _ in range(3):
            await drill.start_worker(at="send.answered:1:kill").killed("send.answered")
        await drill.worker()
        await drill.drained()
        assert len(drill.acceptances()) == 3
        evidence = await drill.evidence()
        assert (evidence.messages[only].state, evidence.messages[only].code) == ("uncertain", "poison")
        assert await drill.violations(duplicates=2, uncertain=1) == []
