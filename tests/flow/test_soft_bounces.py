"""Soft bounces: counted once per message, too many list the address, deliveries in between begin the count anew."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import pytest

from outrider.contracts.actor import Actor
from outrider.contracts.outcome import Deferred, Outcome, Rejected
from outrider.data.db import Role
from outrider.domain.contacts import suppressions
from outrider.domain.messages import bounces, people
from outrider.domain.messages.bounces import SoftBounce
from outrider.engine.dispatch.record import row_for, write
from outrider.engine.maintenance.upkeep import Upkeep
from tests.kit.dispatch import Desk, Post

ACTOR = Actor("system", "test")
ADDRESS = "full@example.org"


@pytest.fixture
async def desk(post: Post) -> Desk:
    return await post.desk()


async def went(desk: Desk, *days_ago: float, state: str = "bounced", address: str = ADDRESS) -> list[UUID]:
    """Messages that were handed over so many days ago."""
    ids = await desk.admit(len(days_ago), address=address)
    for message_id, ago in zip(ids, days_ago, strict=True):
        await desk.post.execute(
            "WITH gone AS (DELETE FROM queue WHERE tenant_id = $1 AND message_id = $2) "
            "UPDATE messages SET state = $3, finished_at = now() - $4 * interval '1 day' "
            "WHERE tenant_id = $1 AND id = $2",
            desk.tenant_id, message_id, state, ago,
        )  # fmt: skip
    return ids


async def came_back(desk: Desk, ids: Sequence[UUID], *days_ago: float, address: str = ADDRESS) -> int:
    """They came back so many days ago, one report after the other; gives how many addresses were listed."""
    listed = 0
    for message_id, ago in zip(ids, days_ago, strict=True):
        (row,) = await desk.post.fetch("SELECT now() - $1 * interval '1 day' AS at", ago)
        bounced = SoftBounce(message_id, "email", address, row["at"], "mailbox_unavailable", "452 4.2.2 mailbox full")
        async with desk.engine() as uow:
            listed += await bounces.count(uow.raw, desk.tenant_id, [bounced])
    return listed


async def entries(desk: Desk) -> list[Any]:
    return await desk.post.fetch(
        "SELECT address, scope, reason, note, round(extract(epoch FROM expires_at - now()) / 86400)::int AS days "
        "FROM suppressions WHERE tenant_id = $1 ORDER BY address",
        desk.tenant_id,
    )


async def policy(desk: Desk, settings: str) -> None:
    await desk.post.execute("UPDATE tenants SET settings = $2::text::jsonb WHERE id = $1", desk.tenant_id, settings)


async def test_the_fifth_within_thirty_days_on_three_days_lists_the_address_and_says_why(desk: Desk) -> None:
    ids = await went(desk, 20, 15, 10, 5, 1)
    assert await came_back(desk, ids[:4], 20, 15, 10, 5) == 0
    assert await entries(desk) == []
    assert await came_back(desk, ids[4:], 1) == 1
    (entry,) = await entries(desk)
    assert (entry["address"], entry["scope"], entry["reason"], entry["days"]) == (ADDRESS, "all", "soft_bounce", 90)
    assert entry["note"].startswith("5 soft bounces on 5 days from ")
    assert entry["note"].endswith("the last: 452 4.2.2 mailbox full")
    assert (await desk.claim()).batch is None
    blocked = await desk.admit(1, address=ADDRESS)
    await desk.claim()
    assert await desk.states(blocked) == ["blocked"]
    assert (await desk.message(blocked[0]))["detail"] == "do not contact: soft_bounce"


async def test_a_report_told_again_counts_nothing_not_even_after_the_entry_was_taken_away(desk: Desk) -> None:
    ids = await went(desk, 20, 15, 10, 5)
    assert await came_back(desk, ids * 2, *((20, 15, 10, 5) * 2)) == 0
    ids += await went(desk, 1)
    assert await came_back(desk, ids[4:], 1) == 1
    async with desk.post.runtime.db.uow(Role.ENGINE, desk.tenant_id) as uow:
        channels = desk.post.runtime.channels
        await suppressions.unsuppress(uow, channels, ACTOR, "email", ADDRESS, reason="they emptied it")
    assert await came_back(desk, ids, 20, 15, 10, 5, 1) == 0
    assert await entries(desk) == []
    assert await came_back(desk, await went(desk, 0), 0) == 0, "counting begins anew"


async def test_several_on_few_days_or_long_ago_list_nobody(desk: Desk) -> None:
    same_day = (0.001, 0.002, 0.003, 0.004, 0.005, 0.006)
    assert await came_back(desk, await went(desk, *same_day), *same_day) == 0
    other = "old@example.org"
    ago = (80, 70, 60, 50, 5)
    assert await came_back(desk, await went(desk, *ago, address=other), *ago, address=other) == 0
    assert await entries(desk) == []


@pytest.mark.parametrize(
    ("state", "ago", "is_listed"), [("delivered", 3, False), ("sent", 8, False), ("sent", 3, True)]
)
async def test_a_delivery_in_between_begins_the_count_anew(
    desk: Desk, state: str, ago: float, *, is_listed: bool
) -> None:
    before = (20, 15, 10, 9)
    ids = await went(desk, *before)
    await went(desk, ago, state=state)
    assert await came_back(desk, ids, *before) == 0
    listed = await came_back(desk, await went(desk, 1), 1)
    assert (listed == 1) is is_listed, "handed over and not sent back for five days is a delivery"


async def test_the_numbers_are_the_tenants(desk: Desk) -> None:
    await policy(desk, '{"soft_bounce_limit": 2, "soft_bounce_least_days": 1, "soft_bounce_hold_days": 0}')
    assert await came_back(desk, await went(desk, 2, 1), 2, 1) == 1
    (entry,) = await entries(desk)
    assert (entry["scope"], entry["days"]) == ("all", None)
    await policy(desk, '{"soft_bounce_limit": 1, "soft_bounce_least_days": 1, "soft_bounce_scope": "bulk"}')
    assert await came_back(desk, await went(desk, 1, address="bulk@example.org"), 1, address="bulk@example.org") == 1
    assert [entry["scope"] for entry in await entries(desk)] == ["bulk", "all"]
    await policy(desk, '{"soft_bounce_limit": 0}')
    off = "off@example.org"
    ago = (20, 15, 10, 5, 1)
    assert await came_back(desk, await went(desk, *ago, address=off), *ago, address=off) == 0


async def test_an_entry_ends_by_itself_and_a_stronger_one_does_not(desk: Desk) -> None:
    for address in (ADDRESS, "stays@example.org"):
        ago = (20, 15, 10, 5, 1)
        assert await came_back(desk, await went(desk, *ago, address=address), *ago, address=address) == 1
    await desk.post.execute("UPDATE suppressions SET expires_at = now() WHERE tenant_id = $1", desk.tenant_id)
    async with desk.engine() as uow:
        await suppressions.record(
            uow, ACTOR, "email", "stays@example.org", scope="all", reason="hard_bounce", source="test"
        )
    async with desk.post.runtime.db.uow(Role.ENGINE) as uow:
        assert await suppressions.expire(uow, 1000) == 1
    assert [(row["address"], row["reason"], row["days"]) for row in await entries(desk)] == [
        ("stays@example.org", "hard_bounce", None)
    ]
    (audited,) = await desk.post.fetch("SELECT details FROM audit_log WHERE tenant_id = $1", desk.tenant_id)
    assert '"count": 1' in audited["details"]


async def test_of_two_workers_that_count_at_once_one_lists_the_address(desk: Desk) -> None:
    ago = (20.0, 15.0, 10.0, 5.0, 1.0)
    ids = await went(desk, *ago)
    assert await came_back(desk, ids[:3], *ago[:3]) == 0
    both = await asyncio.gather(came_back(desk, ids[3:4], 5), came_back(desk, ids[4:], 1))
    assert sorted(both) == [0, 1]


async def test_what_a_server_refuses_at_once_counts_and_a_mailbox_that_is_gone_is_listed(desk: Desk) -> None:
    await policy(desk, '{"soft_bounce_limit": 2, "soft_bounce_least_days": 1}')
    settings = desk.post.runtime.settings
    given_up = Deferred("server_deferred", "RCPT: 450 4.2.1 busy", None, is_soft=True)
    full = Rejected("mailbox_unavailable", "RCPT: 552 5.2.2 full", is_soft=True)
    gone = Rejected("mailbox_unavailable", "RCPT: 550 5.1.1 nobody", "hard_bounce")
    greylisted = Deferred("server_deferred", "RCPT: 450 4.2.1 busy", None, is_soft=True)
    last = settings.retry_attempts
    steps: list[tuple[str, Outcome, int]] = [
        ("a@example.org", given_up, last), ("b@example.org", gone, 1), ("c@example.org", greylisted, 1),
        ("a@example.org", full, 1),
    ]  # fmt: skip
    for address, outcome, attempt in steps:
        (message_id,) = await desk.admit(1, address=address)
        claim = await desk.claim()
        assert claim.batch is not None
        row = row_for(message_id, claim.batch.token, outcome, attempt=attempt, may_repeat=True, settings=settings)
        async with desk.post.engine.transaction() as raw:
            await write(raw, desk.tenant_id, [row])
    assert [(row["address"], row["reason"]) for row in await entries(desk)] == [
        ("a@example.org", "soft_bounce"), ("b@example.org", "hard_bounce"),
    ]  # fmt: skip
    rows = await desk.post.fetch("SELECT address FROM soft_bounces WHERE tenant_id = $1 ORDER BY 1", desk.tenant_id)
    assert [row["address"] for row in rows] == ["a@example.org"] * 2, "one that is tried again has not failed yet"


async def test_upkeep_forgets_what_no_policy_looks_back_to(desk: Desk) -> None:
    ids = await went(desk, 400, 1)
    await came_back(desk, ids, 400, 1)
    assert (await Upkeep(desk.post.runtime).retention())["soft_bounces"] == 1
    rows = await desk.post.fetch("SELECT message_id FROM soft_bounces WHERE tenant_id = $1", desk.tenant_id)
    assert [row["message_id"] for row in rows] == ids[1:]


async def test_what_came_back_is_forgotten_with_the_person_and_nobody_counts_for_the_erased(desk: Desk) -> None:
    ago = (4.0, 3.0)
    ids = await went(desk, *ago)
    await came_back(desk, ids, *ago)
    async with desk.engine() as uow:
        await people.blank(uow, ids)
    assert await desk.post.value("SELECT count(*) FROM soft_bounces WHERE tenant_id = $1", desk.tenant_id) == 0
    await came_back(desk, ids, *ago, address="erased")
    assert await desk.post.value("SELECT count(*) FROM soft_bounces WHERE tenant_id = $1", desk.tenant_id) == 0


@pytest.mark.parametrize("first", ["the person", "the bounces"])
async def test_what_ends_widens_nothing_that_stays(desk: Desk, first: str) -> None:
    (soon,) = await desk.post.fetch("SELECT now() + interval '90 days' AS at")
    left = suppressions.Entry("email", ADDRESS, "bulk", "unsubscribe")
    full = suppressions.Entry("email", ADDRESS, "all", "soft_bounce", expires_at=soon["at"])
    for entry in (left, full) if first == "the person" else (full, left):
        async with desk.engine() as uow:
            await suppressions.record_all(uow.raw, desk.tenant_id, ACTOR, [entry], source="test")
    (entry,) = await entries(desk)
    assert (entry["scope"], entry["reason"], entry["days"]) == ("bulk", "unsubscribe", None), "receipts go again"
