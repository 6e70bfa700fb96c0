"""Brakes on a real database: too many opt-outs, bounces or complaints among recipients pause a campaign [S1-67]."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any
from uuid import UUID

import pytest

from outrider.contracts.actor import Actor
from outrider.domain.campaigns import launch
from outrider.domain.campaigns.brakes import Watch
from outrider.domain.tenants import tenants
from tests.kit.campaigns import Campaign, fanned_out, launched
from tests.kit.dispatch import GATES, Desk, Post, posts

TESTER = Actor("user", "tester")


@pytest.fixture(scope="module")
async def post(new_database: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Post]:
    async with posts(new_database("migrated"), tmp_path_factory.mktemp("brakes")) as made:
        yield made


@pytest.fixture
async def desk(post: Post) -> Desk:
    return await post.desk()


async def sent(desk: Desk, count: int) -> tuple[Campaign, list[str]]:
    """A campaign that still sends and has sent so many; the addresses in the order of sending."""
    campaign = await launched(desk, count)
    await fanned_out(desk.post)
    await desk.post.execute(
        "UPDATE messages SET state = 'sent', finished_at = now() - interval '1 minute' "
        "WHERE tenant_id = $1 AND campaign_id = $2",
        desk.tenant_id, campaign.id,
    )  # fmt: skip
    await desk.post.execute("UPDATE campaigns SET state = 'sending' WHERE tenant_id = $1", desk.tenant_id)
    rows = await desk.post.fetch(
        "SELECT address FROM messages WHERE tenant_id = $1 AND campaign_id = $2 ORDER BY id",
        desk.tenant_id,
        campaign.id,
    )
    return campaign, [row["address"] for row in rows]


async def leave(desk: Desk, addresses: Sequence[str], reason: str = "unsubscribe") -> None:
    for address in addresses:
        await desk.post.execute(
            "INSERT INTO suppressions"
            " (tenant_id, channel, address_hash, address, reason, source, created_by, created_at)"
            " VALUES ($1, 'email', sha256(convert_to($2, 'UTF8')), $2, $3, 'test', 'test', clock_timestamp())",
            desk.tenant_id, address, reason,
        )  # fmt: skip


async def step(desk: Desk) -> int:
    return await Watch(desk.post.runtime.db).step()


async def reason_of(desk: Desk, campaign: Campaign) -> tuple[str, Any]:
    state = (await campaign.row())["state"]
    rows = await desk.post.fetch(
        "SELECT reason FROM switches WHERE tenant_id = $1 AND scope = 'campaign' AND scope_id = $2",
        desk.tenant_id, str(campaign.id),
    )  # fmt: skip
    return state, rows[0]["reason"] if rows else None


async def test_three_of_a_hundred_go_on_and_the_fourth_pauses_and_says_so(desk: Desk) -> None:
    campaign, people = await sent(desk, 120)
    await leave(desk, people[10:13])
    assert await step(desk) == 0
    await leave(desk, [people[100]])
    assert await step(desk) == 1
    assert await reason_of(desk, campaign) == (
        "paused", "opt-outs: 4 of 100 recipients one after another, above 3 %",
    )  # fmt: skip
    assert (await desk.claim(lane=await campaign.lane())).batch is None
    entry = await desk.post.fetch(
        "SELECT actor, reason FROM audit_log WHERE tenant_id = $1 AND action = 'sending.pause'", desk.tenant_id
    )
    assert entry[0]["actor"] == "brake"


async def test_four_who_are_further_apart_than_a_hundred_do_not_count_together(desk: Desk) -> None:
    campaign, people = await sent(desk, 220)
    await leave(desk, [people[0], people[60], people[120], people[219]])
    assert await step(desk) == 0
    assert await reason_of(desk, campaign) == ("sending", None)


async def test_after_a_person_resumed_what_lay_before_does_not_pause_again(desk: Desk) -> None:
    campaign, people = await sent(desk, 100)
    await leave(desk, people[:4])
    assert await step(desk) == 1
    async with desk.engine() as uow:
        await launch.resume(uow, TESTER, campaign.id, reason="looked at")
    await leave(desk, people[4:7])
    assert await step(desk) == 0
    await leave(desk, people[7:8])
    assert await step(desk) == 1


async def test_bounces_and_complaints_have_limits_of_their_own(desk: Desk) -> None:
    campaign, people = await sent(desk, 100)
    await leave(desk, people[:10], "hard_bounce")
    assert await step(desk) == 0
    await leave(desk, people[10:11], "hard_bounce")
    assert await step(desk) == 1
    assert "bounces: 11 of" in (await reason_of(desk, campaign))[1]
    other, more = await sent(desk, 40)
    await leave(desk, more[:3], "complaint")
    assert await step(desk) == 0
    await leave(desk, more[3:4], "complaint")
    assert await step(desk) == 1
    assert "complaints: 4 of" in (await reason_of(desk, other))[1]


async def test_what_is_too_many_is_a_setting(desk: Desk) -> None:
    campaign, people = await sent(desk, 20)
    async with desk.engine() as uow:
        await tenants.change(
            uow, TESTER, desk.tenant_id, settings={"optout_pause_percent": 100}, fields=tenants.known_fields(GATES)
        )
    await leave(desk, people)
    assert await step(desk) == 0
    assert (await reason_of(desk, campaign))[0] == "sending"


async def test_who_left_by_another_campaign_is_not_counted_for_this_one(desk: Desk) -> None:
    first, people = await sent(desk, 10)
    second = await launched(desk, 0)
    await desk.post.execute(
        "INSERT INTO list_members (tenant_id, list_id, contact_id) "
        "SELECT tenant_id, $3, contact_id FROM list_members WHERE tenant_id = $1 AND list_id = $2",
        desk.tenant_id, first.list_id, second.list_id,
    )  # fmt: skip
    await fanned_out(desk.post)
    ids: list[UUID] = await second.messages()
    await desk.post.execute(
        "UPDATE messages SET state = 'sent', finished_at = now() WHERE tenant_id = $1 AND id = ANY($2)",
        desk.tenant_id, ids,
    )  # fmt: skip
    await desk.post.execute("UPDATE campaigns SET state = 'sending' WHERE tenant_id = $1", desk.tenant_id)
    await leave(desk, people[:4])
    assert await step(desk) == 1
    assert (await reason_of(desk, first))[0] == "sending"
    assert (await reason_of(desk, second))[0] == "paused"


async def test_a_look_asks_nothing_while_nobody_has_left(desk: Desk) -> None:
    _, people = await sent(desk, 30)
    watch = Watch(desk.post.runtime.db)
    await watch.step()
    await desk.post.execute("UPDATE suppressions SET reason = 'stop' WHERE tenant_id = $1", desk.tenant_id)
    await leave(desk, people[:4])
    assert await watch.step() == 1
    assert await watch.step() == 0
