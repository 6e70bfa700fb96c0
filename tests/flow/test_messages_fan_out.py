"""Fan-out and the end of a campaign on a real database: everybody once, and no end too early."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import UUID

import orjson
import pytest

from outrider.base import failpoint
from outrider.base.errors import Broken
from outrider.contracts.gate import Lane
from outrider.contracts.outcome import Accepted, Deferred, Outcome, Rejected, Uncertain
from outrider.domain.messages import counts, uncertain
from outrider.domain.messages.cancel import cancel_campaign
from outrider.domain.messages.fan_out import Plan
from outrider.domain.messages.fan_out import fan_out as one_page
from outrider.domain.messages.lanes import directory
from outrider.domain.messages.rows import SQL
from outrider.domain.people import merge
from outrider.engine.dispatch import record
from outrider.engine.fanout import expand
from tests.kit.api import TESTER
from tests.kit.campaigns import Campaign, empty_cancelled, fan_out, fanned_out, finish, launched
from tests.kit.dispatch import Desk, Post, posts, until


@pytest.fixture(scope="module")
async def post(new_database: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Post]:
    async with posts(new_database("migrated"), tmp_path_factory.mktemp("fan_out"), expand_batch=100) as made:
        yield made


@pytest.fixture
async def desk(post: Post) -> Desk:
    return await post.desk()


async def settled(desk: Desk, campaign: Campaign, outcome: Outcome, *, limit: int = 1000) -> list[UUID]:
    """Claim and settle messages of a campaign alike."""
    claim = await desk.claim(limit, lane=await campaign.lane())
    assert claim.batch is not None
    settings = desk.post.runtime.settings
    rows = [
        record.row_for(each, claim.batch.token, outcome, attempt=1, may_repeat=False, settings=settings)
        for each in claim.batch.messages
    ]
    async with desk.post.engine.transaction() as raw:
        await record.write(raw, desk.tenant_id, rows)
    return list(claim.batch.messages)


async def of_campaign(campaign: Campaign) -> dict[str, int]:
    async with campaign.desk.engine() as uow:
        return await counts.of_campaign(uow, campaign.desk.tenant_id, campaign.id)


# everybody once


async def test_every_member_with_an_address_gets_one_message_page_by_page(desk: Desk) -> None:
    campaign = await launched(desk, 250, without=30)
    pages = 1
    while await fan_out(desk.post):
        pages += 1
    row = await campaign.row()
    assert pages == 4, "three pages and the one that finds nothing more"
    assert (row["expanded_count"], row["no_address_count"]) == (220, 30)
    assert row["expanded_at"] is not None
    ids = await campaign.messages()
    assert len(ids) == 220
    rows = await desk.post.fetch(
        "SELECT DISTINCT contact_id, address FROM messages WHERE campaign_id = $1", campaign.id
    )
    assert len(rows) == 220
    assert set(await desk.states(ids)) == {"queued"}
    assert await of_campaign(campaign) == {"queued": 220}


async def test_what_a_recipient_is_called_is_frozen_in_the_message(desk: Desk) -> None:
    campaign = await launched(desk, 1, expires_at=datetime.now(UTC) + timedelta(days=1), priority=3)
    await fanned_out(desk.post)
    (message_id,) = await campaign.messages()
    await desk.post.execute("UPDATE contacts SET name = 'Changed' WHERE tenant_id = $1", desk.tenant_id)
    message = await desk.message(message_id)
    variables = orjson.loads(message["variables"])
    number = message["address"].removesuffix("@example.org")
    assert variables == {"n": 1, "name": "P1", "email": message["address"], "external_id": number}
    assert (message["priority"], message["purpose"], message["content_id"]) == (3, "marketing", desk.content_id)
    assert message["expires_at"] is not None


async def test_a_page_repeated_queues_nobody_twice(desk: Desk) -> None:
    campaign = await launched(desk, 150)
    await fan_out(desk.post)
    await desk.post.execute("UPDATE campaigns SET expanded_to = NULL WHERE id = $1", campaign.id)
    await fanned_out(desk.post)
    assert len(await campaign.messages()) == 150
    assert (await campaign.row())["expanded_count"] == 150


@pytest.mark.parametrize("is_frozen", [False, True], ids=["list", "audience"])
async def test_who_becomes_another_contact_before_their_turn_gets_it_once_as_that_one(
    desk: Desk, *, is_frozen: bool
) -> None:
    tenant = desk.tenant_id
    # made first: by its id it stands where the walk has been
    early, left = [
        await desk.post.value("INSERT INTO contacts (tenant_id, name) VALUES ($1, $2) RETURNING id", tenant, name)
        for name in ("Early", "Left")
    ]
    campaign = await launched(desk, 150)
    rows = await desk.post.fetch(
        "SELECT contact_id FROM list_members WHERE tenant_id = $1 AND list_id = $2 ORDER BY 1", tenant, campaign.list_id
    )
    ids = [row["contact_id"] for row in rows]
    if is_frozen:
        await desk.post.execute(
            "INSERT INTO campaign_audience (tenant_id, campaign_id, contact_id) SELECT $1, $2, unnest($3::uuid[])",
            tenant, campaign.id, ids,
        )  # fmt: skip
        await desk.post.execute(
            "UPDATE campaigns SET audience = '{}', audience_at = now() WHERE tenant_id = $1 AND id = $2",
            tenant, campaign.id,
        )  # fmt: skip
    await fan_out(desk.post)
    assert len(await campaign.messages()) == 100
    assert max(early, left) < ids[99], "a walk would not come to them any more"
    had, theirs, others, gone = ids[5], ids[120], ids[130], ids[140]
    async with desk.engine() as uow:
        await merge.merge(uow, TESTER, early, theirs)
        await merge.merge(uow, TESTER, had, others)
        await merge.merge(uow, TESTER, left, gone)
    await desk.post.execute("DELETE FROM list_members WHERE tenant_id = $1 AND contact_id = $2", tenant, left)
    await fanned_out(desk.post)
    messages = await desk.post.fetch(
        "SELECT contact_id, address, variables::text FROM messages WHERE tenant_id = $1 AND campaign_id = $2",
        tenant, campaign.id,
    )  # fmt: skip
    stay = {left} if is_frozen else set()  # a list is left as long as its turn has not come
    assert {row["contact_id"] for row in messages} == {*ids, early, *stay} - {theirs, others, gone}
    assert len(messages) == 148 + len(stay), "whoever had it before is not sent it again as another"
    (to_early,) = [row for row in messages if row["contact_id"] == early]
    addresses = await desk.post.fetch(
        "SELECT address FROM addresses WHERE tenant_id = $1 AND contact_id = $2", tenant, early
    )
    assert [to_early["address"]] == [row["address"] for row in addresses]
    assert orjson.loads(to_early["variables"])["name"] == "Early"
    row = await campaign.row()
    assert (row["expanded_count"], row["no_address_count"], row["expanded_at"] is not None) == (len(messages), 0, True)


async def test_a_page_that_fails_leaves_neither_messages_nor_checkpoint_and_keeps_nobody_else_waiting(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign = await launched(desk, 150)
    await fan_out(desk.post)
    before = await campaign.row()
    neighbour = await launched(desk, 5)
    steps = {loop.name: loop.step for loop in expand.loops(desk.post.runtime)}
    failures: list[str] = []

    def fail_once(name: str) -> None:
        failures.append(name)
        if len(failures) == 1:
            raise Broken("failpoint", f"failed at {name}")

    await desk.post.execute("UPDATE campaigns SET served_at = now() WHERE id = $1", neighbour.id)  # comes second
    monkeypatch.setattr(failpoint, "ARMED", True)
    monkeypatch.setattr(failpoint, "hit", fail_once)
    await steps["fan_out"]()
    monkeypatch.undo()
    after = await campaign.row()
    assert after.pop("trouble") is not None, "what keeps a campaign from going on is shown"
    assert after.pop("trouble_at", None) != before.pop("trouble_at", None)
    assert before.pop("trouble") is None
    assert after == before
    assert (len(await campaign.messages()), len(await neighbour.messages())) == (100, 5)
    await steps["fan_out"]()
    assert len(await campaign.messages()) == 100, "it rests for a while after a bug"
    await fanned_out(desk.post)
    assert len(await campaign.messages()) == 150


async def test_an_address_that_moved_to_another_contact_still_gets_the_campaign_once(desk: Desk) -> None:
    campaign = await launched(desk, 150)
    await fan_out(desk.post)
    first = (await campaign.messages())[0]
    address = (await desk.message(first))["address"]
    heir = await desk.post.value(
        "SELECT max(contact_id::text)::uuid FROM list_members WHERE list_id = $1", campaign.list_id
    )
    await desk.post.execute(
        "WITH gone AS (DELETE FROM addresses WHERE tenant_id = $1 AND contact_id = $3) "
        "UPDATE addresses SET contact_id = $3 WHERE tenant_id = $1 AND address = $2",
        desk.tenant_id, address, heir,
    )  # fmt: skip
    await fanned_out(desk.post)
    assert len(await campaign.messages()) == 149, "the heir's only address has the campaign already"


async def test_a_contact_with_two_addresses_gets_one_message_to_the_older(desk: Desk) -> None:
    campaign = await launched(desk, 1)
    await desk.post.execute(
        "INSERT INTO addresses (tenant_id, channel, address, contact_id, created_at) "
        "SELECT tenant_id, channel, 'older@example.org', contact_id, created_at - interval '1 day' "
        "FROM addresses WHERE tenant_id = $1",
        desk.tenant_id,
    )
    await fanned_out(desk.post)
    (message_id,) = await campaign.messages()
    assert (await desk.message(message_id))["address"] == "older@example.org"


async def test_addresses_of_another_channel_do_not_count(desk: Desk) -> None:
    campaign = await launched(desk, 2)
    await desk.post.execute("UPDATE addresses SET channel = 'sms' WHERE tenant_id = $1", desk.tenant_id)
    await fanned_out(desk.post)
    row = await campaign.row()
    assert (row["expanded_count"], row["no_address_count"]) == (0, 2)


async def test_two_workers_take_different_campaigns_and_never_the_same_page(post: Post, desk: Desk) -> None:
    campaigns = [await launched(desk, 250), await launched(desk, 250)]
    await asyncio.gather(*(fanned_out(post) for _ in range(3)))
    await fanned_out(post)
    for campaign in campaigns:
        assert len(await campaign.messages()) == 250
        assert (await campaign.row())["expanded_count"] == 250


@pytest.mark.parametrize("state", ["draft", "paused", "cancelled", "finished"])
async def test_only_a_campaign_that_is_being_sent_is_fanned_out(desk: Desk, state: str) -> None:
    campaign = await launched(desk, 3, state=state)
    await fanned_out(desk.post)
    assert await campaign.messages() == []


async def test_a_page_beyond_the_list_says_that_it_is_through(desk: Desk) -> None:
    campaign = await launched(desk, 2)
    lane = await campaign.lane()
    plan = Plan(campaign.id, campaign.list_id, lane.id, "email", desk.content_id, "marketing", 5, None)
    async with desk.post.engine.transaction() as raw:
        page = await one_page(raw, desk.tenant_id, plan, after=UUID(int=2**128 - 1), limit=100)
        assert (page.last, page.looked_at, page.queued, page.without_address) == (None, 0, 0, 0)
        page = await one_page(raw, desk.tenant_id, plan, after=None, limit=100)
        assert (page.looked_at, page.queued) == (2, 2)
        again = await one_page(raw, desk.tenant_id, plan, after=None, limit=100)
        assert (again.looked_at, again.queued, again.last) == (2, 0, page.last)


# the end


async def test_a_campaign_is_finished_when_every_recipient_is_and_says_how_many_of_each(desk: Desk) -> None:
    campaign = await launched(desk, 6)
    assert await _state(campaign) == "sending", "its list is not through"
    await fanned_out(desk.post)
    outcomes: list[Outcome] = [Accepted(), Rejected("mailbox_unavailable", ""), Uncertain("answer_lost", "")]
    for outcome in outcomes:
        assert await _state(campaign) == "sending"
        await settled(desk, campaign, outcome, limit=1)
    (late,) = await settled(desk, campaign, Deferred("server_deferred", ""), limit=1)
    await settled(desk, campaign, Accepted())
    assert await _state(campaign) == "sending", "one waits for its next attempt"
    assert await of_campaign(campaign) == {"sent": 3, "failed": 1, "uncertain": 1, "scheduled": 1}
    await desk.post.execute("UPDATE queue SET state = 0 WHERE message_id = $1", late)
    assert await _state(campaign) == "sending"
    await settled(desk, campaign, Accepted())
    assert await _state(campaign) == "finished"
    assert await of_campaign(campaign) == {"sent": 4, "failed": 1, "uncertain": 1}
    assert not await desk.post.value("SELECT is_open FROM lanes WHERE campaign_id = $1", campaign.id)
    assert (await campaign.row())["finished_at"] is not None


async def _state(campaign: Campaign) -> str:
    """The state after a round of the finishing loop."""
    await finish(campaign.desk.post)
    return str((await campaign.row())["state"])


async def test_a_campaign_without_anybody_is_finished_at_once(desk: Desk) -> None:
    campaign = await launched(desk, 0)
    await fanned_out(desk.post)
    assert await _state(campaign) == "finished"


async def test_a_paused_campaign_is_not_finished_behind_its_back(desk: Desk) -> None:
    campaign = await launched(desk, 1)
    await fanned_out(desk.post)
    await settled(desk, campaign, Accepted())
    await desk.post.execute("UPDATE campaigns SET state = 'paused' WHERE id = $1", campaign.id)
    assert await _state(campaign) == "paused"


async def test_hundreds_of_campaigns_under_way_never_keep_another_from_its_end(post: Post, desk: Desk) -> None:
    busy = await launched(desk, 1)
    await fanned_out(post)
    await post.execute(
        "WITH one AS (SELECT * FROM campaigns WHERE id = $1) "
        "INSERT INTO campaigns (tenant_id, name, channel, sender_id, content_id, list_id, created_by, state, lane_id, "
        "expanded_at) SELECT tenant_id, name || n, channel, sender_id, content_id, list_id, created_by, state, lane_id,"
        " expanded_at FROM one, generate_series(1, 600) n",
        busy.id,
    )
    done = await launched(desk, 0)
    await fanned_out(post)
    assert await _state(done) == "finished"
    await post.execute("UPDATE campaigns SET state = 'cancelled' WHERE tenant_id = $1", desk.tenant_id)


async def test_a_resend_while_its_campaign_is_being_finished_leaves_its_lane_open(desk: Desk) -> None:
    campaign = await launched(desk, 1)
    await fanned_out(desk.post)
    (message_id,) = await settled(desk, campaign, Uncertain("answer_lost", ""))
    async with desk.engine() as uow:
        await uncertain.resend(uow, TESTER, desk.tenant_id, [message_id], reason="test")
        finishing = asyncio.create_task(finish(desk.post))
        # the finisher sees nothing open yet; it must wait for this transaction before it closes the lane
        await until(partial(_is_waiting_or_done, desk, finishing))
    await finishing
    assert await desk.post.value("SELECT is_open FROM lanes WHERE campaign_id = $1", campaign.id)
    assert [lane.id for lane in await _directory(desk)] == [(await campaign.lane()).id]


async def _is_waiting_or_done(desk: Desk, task: asyncio.Task[None]) -> bool:
    return task.done() or bool(await desk.post.value("SELECT count(*) FROM pg_locks WHERE NOT granted"))


async def _directory(desk: Desk) -> list[Lane]:
    async with desk.post.engine.transaction() as raw:
        return [lane for lane in await directory(raw) if lane.tenant_id == desk.tenant_id]


# cancelling


async def test_cancelling_withdraws_what_waits_and_leaves_what_is_on_the_wire(desk: Desk) -> None:
    campaign, other = await launched(desk, 6), await launched(desk, 1)
    await fanned_out(desk.post)
    ids = await campaign.messages()
    await desk.claim(1, lane=await campaign.lane())
    await desk.post.execute("UPDATE queue SET state = 4 WHERE message_id = $1", ids[1])
    await desk.post.execute("UPDATE queue SET state = 5 WHERE message_id = $1", ids[2])
    async with desk.engine() as uow:
        assert await cancel_campaign(uow, desk.tenant_id, campaign.id) == 5
    assert sorted(await desk.states(ids)) == ["cancelled"] * 5 + ["sending"]
    assert await desk.states(await other.messages()) == ["queued"]
    assert await desk.events(ids[1]) == ["cancelled"]
    assert await of_campaign(campaign) == {"cancelled": 5, "sending": 1}
    async with desk.engine() as uow:
        assert await cancel_campaign(uow, desk.tenant_id, campaign.id) == 0


async def test_counts_always_add_up_to_what_was_queued(desk: Desk) -> None:
    campaign = await launched(desk, 40)
    await fanned_out(desk.post)
    for outcome in (Accepted(), Rejected("poison", ""), Deferred("server_deferred", ""), Uncertain("answer_lost", "")):
        await settled(desk, campaign, outcome, limit=7)
        assert sum((await of_campaign(campaign)).values()) == 40
        async with desk.post.engine.transaction() as raw:
            await SQL.fold_rollups.value(raw)
        assert sum((await of_campaign(campaign)).values()) == 40


async def test_what_comes_back_long_after_a_cancellation_is_withdrawn_and_the_lane_closed(desk: Desk) -> None:
    campaign = await launched(desk, 3)
    await fanned_out(desk.post)
    of_campaign = "tenant_id = $1 AND lane_id IN (SELECT id FROM lanes WHERE tenant_id = $1 AND campaign_id = $2)"
    key = (desk.tenant_id, campaign.id)
    await desk.post.execute(f"UPDATE queue SET state = 1, token = 7 WHERE {of_campaign}", *key)
    await desk.post.execute("UPDATE campaigns SET state = 'cancelled' WHERE tenant_id = $1 AND id = $2", *key)
    await empty_cancelled(desk.post)
    assert await desk.post.value(f"SELECT count(*) FROM queue WHERE {of_campaign}", *key) == 3, "on the wire"
    await desk.post.execute(f"UPDATE queue SET state = 4, token = NULL WHERE {of_campaign}", *key)
    await empty_cancelled(desk.post)
    assert await desk.post.value(f"SELECT count(*) FROM queue WHERE {of_campaign}", *key) == 0
    states = "SELECT count(*) FROM messages WHERE tenant_id = $1 AND campaign_id = $2 AND state = 'cancelled'"
    assert await desk.post.value(states, *key) == 3
    assert not await desk.post.value(
        "SELECT bool_or(is_open) FROM lanes WHERE tenant_id = $1 AND campaign_id = $2", *key
    )
