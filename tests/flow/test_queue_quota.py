"""The quota of open messages on a real database: what is counted, who is let in, and campaigns that wait for room."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from outrider.base.errors import Refused, Unavailable
from outrider.contracts.gate import Lane
from outrider.contracts.outcome import Accepted
from outrider.data.db import Role
from outrider.domain.messages import fills, quota
from outrider.domain.messages.fills import Change, Fill
from outrider.engine.dispatch import record
from outrider.engine.fanout import expand
from outrider.engine.maintenance.upkeep import Upkeep
from tests.kit.api import TESTER
from tests.kit.campaigns import Campaign, fan_out, finish, launched
from tests.kit.dispatch import Desk, Post, posts


@pytest.fixture(scope="module")
async def post(new_database: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Post]:
    async with posts(new_database("migrated"), tmp_path_factory.mktemp("quota"), expand_batch=100) as made:
        yield made


@pytest.fixture
async def desk(post: Post) -> AsyncIterator[Desk]:
    await post.reset()
    yield await post.desk()
    await _everybody(post, Change(most=None, tenant_most=None, bulk_percent=None))


async def _everybody(post: Post, change: Change) -> None:
    async with post.runtime.db.uow(Role.ENGINE) as uow:
        await fills.set_for_all(uow, TESTER, change, reason="test")


async def _quota(desk: Desk, most: int | None) -> None:
    async with desk.engine() as uow:
        await fills.set_for_tenant(uow, TESTER, desk.tenant_id, most, reason="test")


async def _fill(desk: Desk) -> Fill:
    async with desk.engine() as uow:
        return await fills.of_tenant(uow)


async def _in_all(post: Post) -> int:
    async with post.runtime.db.uow(Role.ENGINE) as uow:
        return (await fills.installation(uow.raw)).fill.open_count


async def _send(desk: Desk, count: int, lane: Lane | None = None) -> None:
    """Claim so many messages of a lane, the transactional one by default, and finish them as sent."""
    claim = await desk.claim(count, lane=lane)
    assert claim.batch is not None
    settings = desk.post.runtime.settings
    rows = [
        record.row_for(each, claim.batch.token, Accepted("p"), attempt=1, may_repeat=False, settings=settings)
        for each in claim.batch.messages
    ]
    async with desk.post.engine.transaction() as raw:
        await record.write(raw, desk.tenant_id, rows)


async def test_folding_counts_what_is_open_of_each_class_for_the_tenant_and_in_all(post: Post, desk: Desk) -> None:
    other = await post.desk()
    await desk.admit(5)
    await desk.admit(3, message_class="bulk", purpose="transactional")
    await other.admit(2)
    await Upkeep(post.runtime).fold()
    await _send(desk, 2)
    await desk.claim(2, lane=await desk.lane("bulk"))  # nobody has consented: these end as blocked
    await Upkeep(post.runtime).fold()
    mine, theirs = await _fill(desk), await _fill(other)
    assert (mine.transactional, mine.bulk, theirs.transactional, await _in_all(post)) == (3, 1, 2, 6)


@pytest.mark.parametrize("is_folded", [True, False])
async def test_a_full_share_refuses_bulk_and_takes_transactional_up_to_the_quota(
    post: Post, desk: Desk, *, is_folded: bool
) -> None:
    await _quota(desk, 10)
    await desk.admit(8, message_class="bulk")
    if is_folded:
        await Upkeep(post.runtime).fold()
    with pytest.raises(Refused) as refused:
        await desk.admit(1, message_class="bulk")
    assert (refused.value.code, refused.value.http_status) == (quota.TENANT_FULL, 429)
    await desk.admit(2)
    with pytest.raises(Refused):
        await desk.admit(1)
    assert await post.value("SELECT count(*) FROM queue WHERE tenant_id = $1", desk.tenant_id) == 10


async def test_what_was_sent_makes_room_again(post: Post, desk: Desk) -> None:
    await _quota(desk, 4)
    await desk.admit(4)
    with pytest.raises(Refused):
        await desk.admit(1)
    await _send(desk, 3)
    await desk.admit(3)
    with pytest.raises(Refused):
        await desk.admit(1)
    await Upkeep(post.runtime).fold()
    assert (await _fill(desk)).open_count == 4


async def test_a_batch_is_refused_whole(desk: Desk) -> None:
    await _quota(desk, 10)
    with pytest.raises(Refused, match="this call brings 11"):
        await desk.admit(11)
    await desk.admit(10)


async def test_a_full_installation_refuses_tenants_that_have_room_of_their_own(post: Post, desk: Desk) -> None:
    await _everybody(post, Change(most=10, bulk_percent=50))
    other = await post.desk()
    await other.admit(5)
    with pytest.raises(Unavailable) as refused:
        await desk.admit(1, message_class="bulk")
    assert refused.value.code == quota.FULL
    await desk.admit(5)
    with pytest.raises(Unavailable):
        await desk.admit(1)


async def test_a_tenant_without_a_quota_of_its_own_has_the_one_of_everybody(post: Post, desk: Desk) -> None:
    await _everybody(post, Change(tenant_most=2))
    await desk.admit(2)
    with pytest.raises(Refused):
        await desk.admit(1)
    await _quota(desk, 3)
    await desk.admit(1)
    await _quota(desk, None)
    assert (await _fill(desk)).most == 2


async def test_calls_at_the_same_moment_exceed_a_quota_by_no_more_than_is_under_way(post: Post, desk: Desk) -> None:
    await _quota(desk, 60)
    await desk.admit(1)

    async def call() -> int:
        try:
            return len(await desk.admit(10))
        except Refused:
            return 0

    at_once = 6
    for _ in range(3):
        await asyncio.gather(*(call() for _ in range(at_once)))
    there = await post.value("SELECT count(*) FROM queue WHERE tenant_id = $1", desk.tenant_id)
    assert 51 <= there <= 60 + at_once * 10
    assert await call() == 0


async def test_a_recount_mends_counts_that_another_release_left_wrong_and_is_done_once_an_hour(
    post: Post, desk: Desk
) -> None:
    await desk.admit(3)
    await desk.admit(2, message_class="bulk")
    await Upkeep(post.runtime).fold()
    await desk.admit(4)  # not folded yet
    await post.execute("UPDATE open_counts SET transactional = 99, bulk = 99")
    async with post.runtime.db.uow(Role.ENGINE) as uow:
        assert await fills.recount(uow) == [desk.tenant_id]
    fill = await _fill(desk)
    assert (fill.transactional, fill.bulk) == (3, 2)
    await Upkeep(post.runtime).fold()
    assert ((await _fill(desk)).transactional, await _in_all(post)) == (7, 9)
    await post.execute("UPDATE open_counts SET transactional = 99")
    async with post.runtime.db.uow(Role.ENGINE) as uow:
        assert await fills.recount(uow) == []


@pytest.mark.parametrize(
    ("state", "silent_s", "folded_s", "is_left"),
    [("running", 0, 0.5, True), ("running", 60, 0.5, False), ("running", 0, 60, False), ("stopped", 0, 0.5, False)],
)
async def test_who_accepts_folds_while_no_worker_does(
    post: Post, desk: Desk, state: str, silent_s: int, folded_s: float, *, is_left: bool
) -> None:
    await post.execute("DELETE FROM workers")
    await post.execute(
        "INSERT INTO workers (id, role, host, boot_id, pid, version, state, loops, heartbeat_at) "
        "VALUES (gen_random_uuid(), 'worker', 'h', 'b', 1, '1', $1, jsonb_build_object('fold_rollups', $2::float8), "
        "now() - $3 * interval '1 second')",
        state, folded_s, float(silent_s),
    )  # fmt: skip
    await desk.admit(2)
    await Upkeep(post.runtime).fold_for_others()
    await post.execute("DELETE FROM workers")
    assert (await _fill(desk)).open_count == (0 if is_left else 2)


async def _rested(campaign: Campaign, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rounds of the fan-out until it queues nothing more; gives how many there were after each."""
    monkeypatch.setattr(expand, "NO_ROOM_REST_S", 0.0)
    counts = []
    while True:
        await fan_out(campaign.desk.post)
        counts.append(len(await campaign.messages()))
        if counts[-2:].count(counts[-1]) == 2:
            return counts


async def test_a_campaign_waits_for_room_says_so_and_goes_on_by_itself(
    post: Post, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _quota(desk, 100)
    campaign = await launched(desk, 130)
    assert (await _rested(campaign, monkeypatch))[-1] == 80
    row = await campaign.row()
    assert (row["state"], row["expanded_count"]) == ("sending", 80)
    assert row["no_room_at"] is not None
    assert "waits for room: this tenant's queue holds 80 messages" in row["trouble"]
    since = row["trouble_at"]
    await fan_out(post)
    assert (await campaign.row())["trouble_at"] == since
    await desk.admit(20)  # transactional ones still come in
    await _send(desk, 60, await campaign.lane())
    assert (await _rested(campaign, monkeypatch))[-1] == 120  # 40 were open
    await _quota(desk, None)
    assert (await _rested(campaign, monkeypatch))[-1] == 130
    row = await campaign.row()
    assert (row["trouble"], row["no_room_at"], row["expanded_at"] is not None) == (None, None, True)
    await finish(post)


async def test_campaigns_that_wait_for_room_keep_nobody_elses_from_their_turn(
    post: Post, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expand, "NO_ROOM_REST_S", 0.0)
    await _quota(desk, 0)
    for _ in range(51):
        await launched(desk, 1)
    other = await post.desk()
    theirs = await launched(other, 1)
    for _ in range(3):
        await fan_out(post)
    assert len(await theirs.messages()) == 1
