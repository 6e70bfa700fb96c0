"""Work is asked for by one look; the loop that would find something wakes, and nobody else."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from outrider.domain.campaigns.rows import DELIVERY, SQL
from outrider.engine import loop
from outrider.engine.fanout import expand
from outrider.engine.lookout import Lookout
from tests.kit.campaigns import launched
from tests.kit.dispatch import Desk, Post, until

LOOPS = {
    "launches": "launch_scheduled", "audiences": "settle_audiences", "pages": "fan_out", "looks": "look_at_waves",
    "retries": "retry_failed",
}  # fmt: skip
DIRECTORIES = {
    "launches": SQL.launches_due, "audiences": SQL.audiences_due, "pages": SQL.fan_out_due,
    "looks": DELIVERY.looks_due, "retries": SQL.retries_due,
}  # fmt: skip
CASES: dict[str, tuple[set[str], dict[str, str]]] = {
    # what it is -> which loops find it, and what its row says
    "a draft": (set(), {"state": "'draft'", "launched_at": "NULL"}),
    "it is not yet time": (set(), {"state": "'scheduled'", "launch_at": "now() + interval '1 hour'"}),
    "its moment has come": ({"launches"}, {"state": "'scheduled'", "launch_at": "now() - interval '1 second'"}),
    "a page waits": ({"pages"}, {}),
    "it may still be taken back": (set(), {"undo_until": "now() + interval '1 hour'"}),
    "its undo time is over": ({"pages"}, {"undo_until": "now() - interval '1 second'"}),
    "it is paused": (set(), {"state": "'paused'"}),
    "it is through": (set(), {"expanded_at": "now()"}),
    "nobody knows yet who belongs to it": ({"audiences"}, {"audience": "'{}'"}),
    "its audience is known": ({"pages"}, {"audience": "'{}'", "audience_at": "now()"}),
    "its audience may still be taken back": (
        set(), {"audience": "'{}'", "undo_until": "now() + interval '1 hour'"},
    ),
    "it sends again what failed": ({"retries"}, {"retry_of": "id"}),
    "what failed is through": (set(), {"retry_of": "id", "expanded_at": "now()"}),
    "its wave waits for a look": ({"looks"}, {"waits_for_look": "true", "wave": "1"}),
}  # fmt: skip
_WAVE = (
    "INSERT INTO campaign_waves (tenant_id, campaign_id, n, kind, bucket_from, bucket_to, member_count, look_at) "
    "SELECT tenant_id, id, wave, 'canary', 0, 500, 1, now() - interval '1 second' FROM campaigns "
    "WHERE tenant_id = $1 AND id = $2 AND waits_for_look"
)


@pytest.fixture
async def desk(post: Post) -> Desk:
    await post.execute("UPDATE campaigns SET state = 'draft', launch_at = NULL")
    return await post.desk()


async def found(post: Post) -> set[str]:
    """What the directories of the loops give, each asked by itself."""
    async with post.engine.transaction() as raw:
        return {kind for kind, statement in DIRECTORIES.items() if await statement.many(raw)}


async def woken(post: Post) -> set[str]:
    """Which loops one round of the asking wakes."""
    loops = {each.name: each for each in expand.loops(post.runtime)}
    await Lookout(post.engine, loops.values()).step()
    return {kind for kind, name in LOOPS.items() if _bell(loops[name]).is_set()}


def _bell(each: loop.Loop) -> asyncio.Event:
    assert each.wake is not None
    return each.wake


@pytest.mark.parametrize("what", CASES)
async def test_exactly_the_loop_that_would_find_a_campaign_is_woken(what: str, desk: Desk) -> None:
    wanted, columns = CASES[what]
    campaign = await launched(desk, 1)
    sets = ", ".join(f"{name} = {value}" for name, value in columns.items())
    if sets:
        await desk.post.execute(
            f"UPDATE campaigns SET {sets} WHERE tenant_id = $1 AND id = $2", desk.tenant_id, campaign.id
        )
        await desk.post.execute(_WAVE, desk.tenant_id, campaign.id)
    assert await found(desk.post) == wanted, "as the loops themselves see it"
    assert await woken(desk.post) == wanted


async def test_a_campaign_that_is_launched_goes_out_by_being_asked_for(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "UNASKED_S", 3600.0)
    loops = expand.loops(desk.post.runtime)
    async with desk.post.working(loops) as worker:

        async def have_looked() -> bool:
            return all(worker.pulses.by_name[name].rounds for name in LOOPS.values())

        await until(have_looked)
        campaign = await launched(desk, 3)

        async def is_over() -> bool:
            row: dict[str, Any] = await campaign.row()
            return bool(row["state"] == "finished")

        await until(is_over)
        assert await desk.states(await campaign.messages()) == ["sent"] * 3
