"""F54, F56, F58, F59, F61 at a provider that knows requests by a key: killed at every step, not one email goes twice.

Unlike a mail server's, its bound is 0 duplicates and 0 messages in doubt, with either promise of the sender.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from outrider.interfaces.sandbox.resend.options import Rule
from tests.kit.drill import GUARANTEES, Drill, Guarantee
from tests.kit.mailers import Mailers
from tests.kit.processes import until
from tests.kit.scenarios import answers

pytestmark = pytest.mark.timeout(900)
BOTH = pytest.mark.parametrize("guarantee", GUARANTEES)
_EVER_IN_DOUBT = "SELECT count(*) FROM message_events WHERE kind = 'uncertain'"


@BOTH
async def test_a_batch_whose_worker_is_killed_after_it_left_is_repeated_with_its_key_and_delivered_once(
    guarantee: Guarantee, tmp_path: Path
) -> None:
    async with Drill.open(tmp_path) as drill, Mailers.open(drill, guarantee) as mailers:
        mailers.sandbox.rules = [Rule(hang_s=3)]
        await mailers.admit(100)
        victim = await drill.worker()
        await until(lambda: len(mailers.sandbox.taken) >= 100, what="the batch is taken, and not answered")
        victim.kill()
        mailers.sandbox.rules = []
        lost = mailers.keys("accepted")
        await drill.worker()
        await mailers.through()
        assert await mailers.violations() == []
        assert await drill.value(_EVER_IN_DOUBT) == 100
        assert mailers.keys("replayed") >= lost
        assert await drill.value("SELECT count(DISTINCT provider_id) FROM messages WHERE state = 'sent'") == 100


@BOTH
@pytest.mark.parametrize("point", ["send.key_kept:1", "send.before_bytes:1", "send.before_bytes:50"])
async def test_a_batch_whose_worker_is_killed_before_it_left_is_known_not_to_have_been_sent(
    guarantee: Guarantee, point: str, tmp_path: Path
) -> None:
    async with Drill.open(tmp_path) as drill, Mailers.open(drill, guarantee) as mailers:
        await mailers.admit(100)
        victim = await drill.worker(at=f"{point}:kill")
        await victim.killed(point.partition(":")[0])
        assert mailers.sandbox.posted_count == 0
        await drill.worker()
        await mailers.through()
        assert await mailers.violations() == []
        assert await drill.value(_EVER_IN_DOUBT) == 0
        assert mailers.keys("replayed") == set()


@BOTH
@pytest.mark.parametrize("point", ["send.answered:50", "record.before_commit:1", "record.committed:1"])
async def test_a_batch_whose_worker_is_killed_after_its_answer_is_recorded_or_asked_about(
    guarantee: Guarantee, point: str, tmp_path: Path
) -> None:
    async with Drill.open(tmp_path) as drill, Mailers.open(drill, guarantee) as mailers:
        await mailers.admit(100)
        victim = await drill.worker(at=f"{point}:kill")
        await victim.killed(point.partition(":")[0])
        await drill.worker()
        await mailers.through()
        assert await mailers.violations() == []


async def test_whoever_repeats_may_be_killed_as_well(tmp_path: Path) -> None:
    async with Drill.open(tmp_path) as drill, Mailers.open(drill, "at_most_once") as mailers:
        mailers.sandbox.rules = [Rule(hang_s=3)]
        await mailers.admit(50)
        victim = await drill.worker()
        await until(lambda: len(mailers.sandbox.taken) >= 50, what="the batch is taken, and not answered")
        victim.kill()
        mailers.sandbox.rules = []
        second = await drill.worker(at="repeat.answered:1:kill")
        await second.killed("repeat.answered")
        await mailers.due()
        await drill.worker()
        await mailers.through()
        assert await mailers.violations() == []


@BOTH
async def test_a_lost_machine_leaves_its_leases_and_the_batch_is_repeated_all_the_same(
    guarantee: Guarantee, tmp_path: Path
) -> None:
    async with Drill.open(tmp_path, lease_s="2") as drill, Mailers.open(drill, guarantee) as mailers:
        mailers.sandbox.rules = [Rule(hang_s=3)]
        await mailers.admit(60)
        victim = await drill.worker(own_data=True)
        await until(lambda: len(mailers.sandbox.taken) >= 60, what="the batch is taken, and not answered")
        victim.kill()
        mailers.sandbox.rules = []
        await drill.worker()
        await mailers.through()
        assert await mailers.violations() == []


@BOTH
async def test_resets_truncated_answers_conflicts_and_a_server_in_trouble_cost_neither_a_message_nor_a_second_one(
    guarantee: Guarantee, tmp_path: Path
) -> None:
    async with (
        Drill.open(tmp_path, **answers.SETTINGS) as drill,
        Mailers.open(drill, guarantee, batch_size=10) as mailers,
    ):
        mailers.sandbox.rules = [
            Rule(cut="after", times=5, skip=1),
            Rule(cut="before", times=4),
            Rule(body="<html>OK</html>", times=4),
            Rule(body='{"data": [{"id": "56', times=4),
            Rule(status=409, name="concurrent_idempotent_requests", times=4),
            Rule(status=500, name="application_error", times=4),
            Rule(status=503, name="service_unavailable", times=2),
            Rule(status=429, name="rate_limit_exceeded", retry_after_s=0.5, times=2),
        ]
        await mailers.admit(200)
        await drill.worker()
        await drill.worker()
        await mailers.through()
        assert await mailers.violations() == []
        sent = await drill.rows("SELECT id, provider_id FROM messages WHERE state = 'sent'")
        ids = {entry.id for entry in mailers.sandbox.taken}
        assert {row["provider_id"] for row in sent} == ids, "nothing is called sent that was not taken"
