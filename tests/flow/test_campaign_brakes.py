"""Brakes on a real database: too many opt-outs, bounces or complaints among recipients pause a campaign [S1-67]."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from outrider.contracts.actor import Actor
from outrider.contracts.outcome import CAUSES, Accepted, Outcome
from outrider.domain.campaigns import launch
from outrider.domain.campaigns.brakes import WRONG_ADDRESS, Watch
from outrider.domain.tenants import tenants
from outrider.engine.dispatch.record import row_for, write
from outrider.plugins.providers.smtp.replies import Reply, Step, judge
from tests.kit.campaigns import Campaign, fanned_out, launched
from tests.kit.dispatch import GATES, Desk, Post
from tests.kit.texting import Texting, texting

TESTER = Actor("user", "tester")
NOBODY = judge(Step.RCPT, Reply(550, b"550 5.1.1 no such user"))
NOT_NOW = judge(Step.DOT, Reply(554, b"554 5.7.1 looks like spam"))


@pytest.fixture
async def desk(post: Post) -> Desk:
    await post.execute("UPDATE campaigns SET state = 'finished' WHERE state = 'sending'")  # of the tests before
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


async def leave(
    desk: Desk, addresses: Sequence[str], reason: str = "unsubscribe", *, ago_h: float = 0, source: str = "test"
) -> None:
    for address in addresses:
        await desk.post.execute(
            "INSERT INTO suppressions"
            " (tenant_id, channel, address_hash, address, reason, source, created_by, created_at)"
            " VALUES ($1, 'email', sha256(convert_to($2, 'UTF8')), $2, $3, $5, 'test',"
            " clock_timestamp() - $4 * interval '1 hour')",
            desk.tenant_id, address, reason, ago_h, source,
        )  # fmt: skip


async def lay_back(desk: Desk, campaign: Campaign, days: float) -> None:
    """Let a campaign have begun so many days ago; its messages went out evenly since then."""
    await desk.post.execute(
        "UPDATE messages m SET finished_at = now() - $3 * interval '1 day' * (1 - t.part) FROM"
        " (SELECT id, percent_rank() OVER (ORDER BY id) * 0.5 AS part FROM messages WHERE campaign_id = $2) t"
        " WHERE m.tenant_id = $1 AND m.id = t.id",
        desk.tenant_id, campaign.id, days,
    )  # fmt: skip
    await desk.post.execute(
        "UPDATE campaigns SET launched_at = now() - $3 * interval '1 day' WHERE tenant_id = $1 AND id = $2",
        desk.tenant_id, campaign.id, days,
    )  # fmt: skip


async def send(desk: Desk, campaign: Campaign, count: int, refused: Collection[int], how: Outcome = NOBODY) -> None:
    """Claim so many messages and record what became of them: those at some places were refused, the others taken."""
    claim = await desk.claim(count, lane=await campaign.lane())
    assert claim.batch is not None
    ids = sorted(claim.batch.messages)
    assert len(ids) == count
    token, settings = claim.batch.token, desk.post.runtime.settings
    rows = [
        row_for(each, token, how if at in refused else Accepted(), attempt=1, may_repeat=False, settings=settings)
        for at, each in enumerate(ids)
    ]
    async with desk.post.engine.transaction() as raw:
        assert len(await write(raw, desk.tenant_id, rows)) == count


async def step(desk: Desk) -> int:
    """One look by a process that has just begun, to its end."""
    watch = Watch(desk.post.runtime.db)
    paused = await watch.step()
    while watch.is_behind:
        paused += await watch.step()
    return paused


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


async def test_complaints_have_a_limit_of_their_own(desk: Desk) -> None:
    campaign, people = await sent(desk, 40)
    await leave(desk, people[:3], "complaint")
    assert await step(desk) == 0
    await leave(desk, people[3:4], "complaint")
    assert await step(desk) == 1
    assert "complaints: 4 of" in (await reason_of(desk, campaign))[1]


async def test_who_leaves_over_hours_and_days_counts_together(desk: Desk) -> None:
    campaign, people = await sent(desk, 120)
    await lay_back(desk, campaign, 20)
    for address, ago_h in zip(people[10:90:20], (210, 150, 26, 0), strict=True):
        assert await step(desk) == 0
        await leave(desk, [address], ago_h=ago_h)
    assert await step(desk) == 1
    assert (await reason_of(desk, campaign))[1] == "opt-outs: 4 of 100 recipients one after another, above 3 %"


async def test_who_left_days_apart_is_found_by_one_watch_that_went_on_all_the_time(desk: Desk) -> None:
    campaign, people = await sent(desk, 120)
    await lay_back(desk, campaign, 20)
    await leave(desk, people[10:12], ago_h=100)
    watch = Watch(desk.post.runtime.db)
    assert await watch.step() == 0
    await leave(desk, people[60:61])
    assert await watch.step() == 0
    await leave(desk, people[100:101])
    assert await watch.step() == 1
    assert (await reason_of(desk, campaign))[0] == "paused"


async def test_a_transaction_that_commits_late_who_left_earlier_is_seen_as_well(desk: Desk) -> None:
    campaign, people = await sent(desk, 50)
    await lay_back(desk, campaign, 1)
    await leave(desk, people[:3], ago_h=0.5)
    watch = Watch(desk.post.runtime.db)
    assert await watch.step() == 0
    await leave(desk, ["stranger@example.org"], ago_h=0.05)
    assert await watch.step() == 0
    await leave(desk, people[3:4], ago_h=0.09)  # its transaction began before that of the stranger
    assert await watch.step() == 1
    assert (await reason_of(desk, campaign))[0] == "paused"


async def test_thousands_who_left_something_else_at_one_instant_hide_nobody(desk: Desk) -> None:
    campaign, people = await sent(desk, 100)
    await lay_back(desk, campaign, 4)
    await leave(desk, people[:4], ago_h=1)
    for ago_h in (30, 0.5):
        await desk.post.execute(
            "INSERT INTO suppressions"
            " (tenant_id, channel, address_hash, address, reason, source, created_by, created_at)"
            " SELECT $1, 'email', sha256(convert_to(a, 'UTF8')), a, 'unsubscribe', 'test', 'test',"
            " now() - $2::float8 * interval '1 hour'"
            " FROM (SELECT 's' || n || '-' || $2::float8 || '@example.net' AS a FROM generate_series(1, 1100) n) t",
            desk.tenant_id, ago_h,
        )  # fmt: skip
    watch = Watch(desk.post.runtime.db)
    paused, looks = await watch.step(), 1
    while watch.is_behind:
        paused, looks = paused + await watch.step(), looks + 1
    assert looks > 1
    assert paused == 1
    assert (await reason_of(desk, campaign))[0] == "paused"


async def test_who_left_while_a_person_had_paused_it_counts_when_it_goes_on(desk: Desk) -> None:
    campaign, people = await sent(desk, 100)
    watch = Watch(desk.post.runtime.db)
    await watch.step()
    async with desk.engine() as uow:
        await launch.pause(uow, TESTER, campaign.id, reason="lunch")
    await leave(desk, people[:4])
    assert await watch.step() == 0
    async with desk.engine() as uow:
        await launch.resume(uow, TESTER, campaign.id, reason="back")
    assert await watch.step() == 1


async def test_who_named_the_message_they_left_by_counts_for_its_campaign_alone(desk: Desk) -> None:
    first, second, people = await twice(desk, 10)
    ids = await first.messages()
    for message_id, address in zip(ids[:4], people, strict=False):
        await leave(desk, [address], source=f"message:{message_id}")
    assert await step(desk) == 1
    assert (await reason_of(desk, first))[0] == "paused"
    assert (await reason_of(desk, second))[0] == "sending"


async def test_who_unsubscribes_and_complains_does_both(desk: Desk) -> None:
    campaign, people = await sent(desk, 20)
    ids = await campaign.messages()
    for message_id, address in zip(ids[:3], people, strict=False):
        await leave(desk, [address], source=f"message:{message_id}")
    assert await step(desk) == 0
    await desk.post.execute(
        "UPDATE suppressions SET reason = 'complaint' WHERE tenant_id = $1 AND address = $2", desk.tenant_id, people[0]
    )
    await leave(desk, people[3:4])
    assert await step(desk) == 1
    assert "opt-outs: 4 of 20" in (await reason_of(desk, campaign))[1]


async def test_those_who_leave_together_are_found_behind_many_who_left_one_by_one(desk: Desk) -> None:
    campaign, people = await sent(desk, 1500)
    await leave(desk, people[0:1300:40])
    assert await step(desk) == 0, "three of any hundred"
    await leave(desk, people[1450:1452])
    assert await step(desk) == 0
    await leave(desk, people[1452:1453])
    assert await step(desk) == 0
    await leave(desk, people[1453:1454])
    assert await step(desk) == 1
    assert "opt-outs: 4 of 100" in (await reason_of(desk, campaign))[1]


async def test_what_a_server_refuses_at_once_is_a_bounce(desk: Desk) -> None:
    campaign = await launched(desk, 400)
    await fanned_out(desk.post)
    watch = Watch(desk.post.runtime.db)
    await send(desk, campaign, 120, range(0, 100, 10))
    assert await watch.step() == 0
    await send(desk, campaign, 1, [0])
    assert await watch.step() == 0, "ten of the last hundred"
    await send(desk, campaign, 9, range(9))
    assert await watch.step() == 1
    assert await reason_of(desk, campaign) == (
        "paused", "bounces: 17 of 100 recipients one after another, above 10 %",
    )  # fmt: skip


async def test_what_is_refused_for_what_it_says_is_no_bounce(desk: Desk) -> None:
    campaign = await launched(desk, 50)
    await fanned_out(desk.post)
    await send(desk, campaign, 50, range(30), NOT_NOW)
    assert await step(desk) == 0
    assert (await reason_of(desk, campaign))[0] == "sending"


async def test_what_came_back_before_a_person_resumed_does_not_count_again(desk: Desk) -> None:
    campaign = await launched(desk, 200)
    await fanned_out(desk.post)
    watch = Watch(desk.post.runtime.db)
    await send(desk, campaign, 40, range(11))
    assert await watch.step() == 1
    async with desk.engine() as uow:
        await launch.resume(uow, TESTER, campaign.id, reason="looked at")
    await send(desk, campaign, 40, range(10))
    assert await watch.step() == 0
    await send(desk, campaign, 1, [0])
    assert await watch.step() == 1


async def test_a_bounce_of_an_address_listed_long_ago_counts_without_a_new_entry(desk: Desk) -> None:
    campaign = await launched(desk, 20)
    await fanned_out(desk.post)
    claimed = await desk.post.fetch(
        "SELECT address FROM messages WHERE tenant_id = $1 AND campaign_id = $2", desk.tenant_id, campaign.id
    )
    claim = await desk.claim(20, lane=await campaign.lane())
    assert claim.batch is not None
    await leave(desk, [row["address"] for row in claimed], "manual", ago_h=1000)
    rows = [
        row_for(each, claim.batch.token, NOBODY, attempt=1, may_repeat=False, settings=desk.post.runtime.settings)
        for each in claim.batch.messages
    ]
    async with desk.post.engine.transaction() as raw:
        await write(raw, desk.tenant_id, rows)
    assert await step(desk) == 1


@pytest.fixture
async def office(migrated_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Texting]:
    async with texting(migrated_url, tmp_path, monkeypatch) as made:
        yield made


async def test_texts_to_numbers_out_of_service_are_bounces(office: Texting) -> None:
    ids = [await office.sent(f"+1415555{n}") for n in range(2000, 2020)]
    (row,) = await office.rows(
        "WITH l AS (INSERT INTO lists (tenant_id, name) VALUES ($1, 'l') RETURNING id),"
        " c AS (INSERT INTO campaigns (tenant_id, name, channel, sender_id, content_id, list_id, created_by,"
        " launched_at, state, lane_id)"
        " SELECT $1, 'texts', 'sms', $3::uuid, m.content_id, l.id, 'test', now(), 'sending', m.lane_id"
        " FROM l, messages m WHERE m.tenant_id = $1 AND m.id = $2 RETURNING id) SELECT id FROM c",
        ids[0], office.sender["id"],
    )  # fmt: skip
    await office.rows("UPDATE messages SET campaign_id = $2 WHERE tenant_id = $1", row["id"])
    watch = Watch(office.api.runtime.db)
    assert await watch.step() == 0
    for message_id in ids[:10]:
        assert (await office.report(message_id, "undelivered", form={"ErrorCode": "30005"}))[0] == 200
    await office.applied()
    assert await watch.step() == 0
    await office.report(ids[10], "failed", form={"ErrorCode": "21211"})
    await office.applied()
    assert await watch.step() == 1
    (paused,) = await office.rows("SELECT reason FROM switches WHERE tenant_id = $1 AND scope = 'campaign'")
    assert paused["reason"] == "bounces: 11 of 20 recipients one after another, above 10 %"


async def test_what_is_too_many_is_a_setting(desk: Desk) -> None:
    campaign, people = await sent(desk, 20)
    async with desk.engine() as uow:
        await tenants.change(
            uow, TESTER, desk.tenant_id, settings={"optout_pause_percent": 100}, fields=tenants.known_fields(GATES)
        )
    await leave(desk, people)
    assert await step(desk) == 0
    assert (await reason_of(desk, campaign))[0] == "sending"


async def twice(desk: Desk, count: int) -> tuple[Campaign, Campaign, list[str]]:
    """Two campaigns that still send and have been sent to the same people, one after the other."""
    first, people = await sent(desk, count)
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
    return first, second, people


async def test_who_left_by_another_campaign_is_not_counted_for_this_one(desk: Desk) -> None:
    first, second, people = await twice(desk, 10)
    await leave(desk, people[:4])
    assert await step(desk) == 1
    assert (await reason_of(desk, first))[0] == "sending"
    assert (await reason_of(desk, second))[0] == "paused"


async def test_who_was_lost_is_acted_on_once(desk: Desk) -> None:
    _, people = await sent(desk, 30)
    watch = Watch(desk.post.runtime.db)
    await watch.step()
    await leave(desk, people[:4])
    assert await watch.step() == 1
    assert await watch.step() == 0


async def test_a_look_reads_no_messages_while_the_counts_say_that_nothing_came_back(desk: Desk) -> None:
    campaign, _ = await sent(desk, 30)
    watch = Watch(desk.post.runtime.db)
    await watch.step()
    await desk.post.execute("UPDATE messages SET state = 'bounced' WHERE tenant_id = $1", desk.tenant_id)
    assert await watch.step() == 0
    await desk.post.execute(
        "WITH told AS (INSERT INTO message_events (tenant_id, message_id, kind)"
        " SELECT tenant_id, id, 'bounced' FROM messages WHERE tenant_id = $1)"
        " INSERT INTO rollup_deltas (tenant_id, lane_id, hour, state, n)"
        " SELECT tenant_id, lane_id, date_trunc('hour', now()), 'bounced', 30 FROM campaigns"
        " WHERE tenant_id = $1 AND id = $2",
        desk.tenant_id, campaign.id,
    )  # fmt: skip
    assert await watch.step() == 1


def test_every_code_of_a_wrong_address_is_a_cause() -> None:
    assert set(WRONG_ADDRESS) <= set(CAUSES)
