"""Waves on a real database: a canary or a test goes first, and what follows from it is decided once, for everybody."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import UUID

import pytest

from outrider.base.errors import Refused
from outrider.contracts.outcome import Accepted, Deferred, Rejected
from outrider.domain.campaigns import judge, launch, pacing, variants, waves
from outrider.domain.campaigns.delivery import AbTest, Canary, Delivery, LocalTime, NewVariant, Pacing
from outrider.domain.campaigns.rows import DELIVERY
from outrider.domain.campaigns.shown import DeliveryView, WaveView
from outrider.domain.campaigns.variants import LOT, WAVE, bucket
from outrider.domain.limits import buckets
from outrider.domain.limits.rows import SQL as LIMITS
from outrider.domain.templates.rows import SQL as TEMPLATES
from outrider.engine.dispatch import record
from outrider.engine.fanout import expand
from tests.kit.api import TESTER
from tests.kit.campaigns import Campaign, fan_out, fanned_out, finish, launched
from tests.kit.dispatch import Desk, Post, posts, until
from tests.kit.waves import due, look, responded, seen, settle, through, waved, went

CANARY = Canary(share_percent=10, minimum_count=20, wait_minutes=30)
TEST = AbTest([NewVariant("a", 50), NewVariant("b", 30), NewVariant("c", 20)], audience_percent=40, minimum_count=5)


@pytest.fixture(scope="module")
async def post(new_database: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Post]:
    async with posts(new_database("migrated"), tmp_path_factory.mktemp("waves"), expand_batch=100) as made:
        yield made


@pytest.fixture
async def desk(post: Post) -> Desk:
    return await post.desk()


async def recipients(campaign: Campaign) -> dict[UUID, UUID]:
    """Who got a message, and which content; nobody twice."""
    rows = await campaign.desk.post.fetch(
        "SELECT contact_id, content_id FROM messages WHERE tenant_id = $1 AND campaign_id = $2",
        campaign.desk.tenant_id, campaign.id,
    )  # fmt: skip
    found = {row["contact_id"]: row["content_id"] for row in rows}
    assert len(found) == len(rows)
    return found


def states(view: DeliveryView) -> list[tuple[str, str]]:
    return [(wave.kind, wave.state) for wave in view.waves]


def first(view: DeliveryView) -> WaveView:
    return view.waves[0]


async def contents(campaign: Campaign) -> list[UUID]:
    return [each.content_id for each in (await seen(campaign)).variants]


async def canary_gone(desk: Desk, count: int = 300, **more: Canary | AbTest | None) -> Campaign:
    """A campaign whose canary was sent, to be looked at."""
    campaign = await waved(desk, count, Delivery(**{"canary": CANARY, **more}))  # type: ignore[arg-type]  # parts of it
    await through(desk.post)
    await went(campaign, Accepted())
    await look(desk.post)
    await due(campaign)
    return campaign


# buckets


async def test_the_database_and_python_put_everybody_into_the_same_bucket(desk: Desk) -> None:
    rows = await desk.post.fetch(
        "SELECT a, b, outrider_bucket(a, b, 0) AS wave, outrider_bucket(a, b, 3) AS lot "
        "FROM (SELECT gen_random_uuid() AS a, gen_random_uuid() AS b FROM generate_series(1, 500)) t"
    )
    assert [(row["wave"], row["lot"]) for row in rows] == [
        (bucket(row["a"], row["b"], WAVE), bucket(row["a"], row["b"], LOT)) for row in rows
    ]


# canary


async def test_a_canary_goes_first_and_the_rest_follows_when_it_fared_well(desk: Desk) -> None:
    campaign = await waved(desk, 300, Delivery(canary=CANARY))
    await through(desk.post)
    row, view = await campaign.row(), await seen(campaign)
    assert states(view) == [("canary", "going_out"), ("rest", "waiting")]
    early = await recipients(campaign)
    assert len(early) == first(view).member_count == first(view).queued_count >= 30
    assert {bucket(campaign.id, each, WAVE) for each in early} <= set(range(round(first(view).share_percent * 100)))
    assert row["expanded_at"] is None
    await look(desk.post)
    assert first(await seen(campaign)).look_at is None, "not all of it was tried"
    lane = await campaign.lane()
    held = await desk.claim(5, lane=lane)
    await went(campaign, Accepted())
    await look(desk.post)
    assert first(await seen(campaign)).look_at is None, "some are on the wire for the first time"
    assert held.batch is not None
    async with desk.post.engine.transaction() as raw:
        await record.write(raw, desk.tenant_id, [
            record.row_for(each, held.batch.token, Accepted(), attempt=1, may_repeat=False,
                           settings=desk.post.runtime.settings) for each in held.batch.messages
        ])  # fmt: skip
    await finish(desk.post)
    await look(desk.post)
    view = await seen(campaign)
    assert states(view) == [("canary", "resting"), ("rest", "waiting")]
    assert view.waits_for == "look"
    await look(desk.post)
    await fanned_out(desk.post)
    assert len(await recipients(campaign)) == len(early), "it is not time to look"
    await due(campaign)
    await look(desk.post)
    await through(desk.post)
    view = await seen(campaign)
    assert states(view) == [("canary", "through"), ("rest", "through")]
    assert (first(view).verdict, first(view).decided_by) == ("go_on", "campaign waves")
    assert first(view).found["sent_count"] == len(early)
    everybody = await recipients(campaign)
    assert len(everybody) == 300
    assert early.items() <= everybody.items()
    await went(campaign, Accepted())
    await finish(desk.post)
    assert (await campaign.row())["state"] == "finished"


async def test_a_canary_that_fared_badly_pauses_the_campaign_with_the_reason(desk: Desk) -> None:
    campaign = await waved(desk, 300, Delivery(canary=CANARY))
    await through(desk.post)
    early = len(await recipients(campaign))
    await went(campaign, Rejected("mailbox_unavailable", ""), limit=5)
    await went(campaign, Accepted())
    await look(desk.post)
    await due(campaign)
    await look(desk.post)
    await fanned_out(desk.post)
    view = await seen(campaign)
    assert states(view) == [("canary", "stopped"), ("rest", "waiting")]
    assert view.waits_for == "decision"
    why = first(view).why
    assert why is not None
    assert why.startswith(f"failed 5 of {early}")
    assert (await campaign.row())["state"] == "paused"
    assert await desk.post.value("SELECT reason FROM switches WHERE tenant_id = $1", desk.tenant_id) == why
    audited = await desk.post.fetch(
        "SELECT actor, details::text AS details FROM audit_log WHERE tenant_id = $1 AND action = 'campaign.wave_stop'",
        desk.tenant_id,
    )
    assert [row["actor"] for row in audited] == ["campaign waves"]
    assert "failed 5" in audited[0]["details"]
    assert len(await recipients(campaign)) == early


async def test_what_a_canary_stopped_goes_on_only_by_a_decision_and_then_reaches_everybody(desk: Desk) -> None:
    campaign = await waved(desk, 100, Delivery(canary=CANARY))
    await through(desk.post)
    await went(campaign, Rejected("mailbox_unavailable", ""))
    await look(desk.post)
    await due(campaign)
    await look(desk.post)
    async with desk.engine() as uow:
        with pytest.raises(Refused, match="stopped before its next wave") as caught:
            await launch.resume(uow, TESTER, campaign.id, reason="x")
    assert caught.value.code == "stopped_by_wave"
    async with desk.engine() as uow:
        await waves.go_on(uow, TESTER, campaign.id, reason="a full disk there")
    assert (await campaign.row())["state"] == "sending"
    assert not await desk.post.fetch("SELECT FROM switches WHERE tenant_id = $1", desk.tenant_id)
    await through(desk.post)
    assert len(await recipients(campaign)) == 100
    async with desk.engine() as uow:
        with pytest.raises(Refused, match="nothing of it waits"):
            await waves.go_on(uow, TESTER, campaign.id, reason="again")


async def test_complaints_and_waiting_messages_count_at_the_look(desk: Desk) -> None:
    campaign = await canary_gone(desk)
    address = await desk.post.value(
        "SELECT address FROM campaign_recipients WHERE campaign_id = $1 LIMIT 1", campaign.id
    )
    await desk.suppress(address)
    await desk.post.execute("UPDATE suppressions SET reason = 'complaint' WHERE tenant_id = $1", desk.tenant_id)
    await look(desk.post)
    why = first(await seen(campaign)).why
    assert why is not None
    assert why.startswith("complained 1 of")
    slow = await waved(desk, 100, Delivery(canary=CANARY))
    await through(desk.post)
    await went(slow, Deferred("server_deferred", ""))
    await look(desk.post)
    assert first(await seen(slow)).look_at is not None, "what was tried and put off does not keep the look away"
    await due(slow)
    await look(desk.post)
    why = first(await seen(slow)).why
    assert why is not None
    assert why.startswith("waiting")


async def test_a_canary_by_hand_waits_for_people_and_shows_them_the_figures(desk: Desk) -> None:
    campaign = await canary_gone(desk, canary=Canary(share_percent=10, minimum_count=20, decision="by_hand"))
    await look(desk.post)
    await look(desk.post)
    await through(desk.post)
    view = await seen(campaign)
    assert states(view) == [("canary", "deciding"), ("rest", "waiting")]
    assert view.waits_for == "decision"
    assert first(view).found["failed_count"] == 0
    async with desk.engine() as uow:
        await waves.go_on(uow, TESTER, campaign.id, reason="looks good")
    await through(desk.post)
    assert len(await recipients(campaign)) == 300


async def test_people_may_stop_a_wave_at_any_time_and_go_on_before_the_look(desk: Desk) -> None:
    campaign = await waved(desk, 100, Delivery(canary=CANARY))
    await settle(desk.post)
    async with desk.engine() as uow:
        with pytest.raises(Refused, match="nothing of it waits"):
            await waves.go_on(uow, TESTER, campaign.id, reason="too early: the canary is not even queued")
    async with desk.engine() as uow:
        await waves.stop(uow, TESTER, campaign.id, reason="wrong link")
    await through(desk.post)
    assert await recipients(campaign) == {}, "stopped before its first page"
    other = await canary_gone(desk, 100)
    async with desk.engine() as uow:
        await waves.go_on(uow, TESTER, other.id, reason="in a hurry")
    await through(desk.post)
    assert len(await recipients(other)) == 100


async def test_a_wave_that_was_stopped_half_queued_goes_on_where_it_was_and_everybody_gets_it_once(desk: Desk) -> None:
    campaign = await waved(desk, 100, Delivery(canary=CANARY))
    await settle(desk.post)
    async with desk.engine() as uow:
        await waves.stop(uow, TESTER, campaign.id, reason="wrong link")
    async with desk.engine() as uow:
        with pytest.raises(Refused, match="say that it goes on"):
            await launch.resume(uow, TESTER, campaign.id, reason="back")
    async with desk.engine() as uow:
        await waves.go_on(uow, TESTER, campaign.id, reason="the link was right")
    await through(desk.post)
    assert 0 < len(await recipients(campaign)) < 100, "the canary first, the rest waits for its look"
    async with desk.engine() as uow:
        await waves.go_on(uow, TESTER, campaign.id, reason="in a hurry")
    await through(desk.post)
    assert len(await recipients(campaign)) == 100


async def test_a_paused_campaign_is_not_looked_at_and_goes_on_where_it_was(desk: Desk) -> None:
    campaign = await canary_gone(desk, 100)
    async with desk.engine() as uow:
        await launch.pause(uow, TESTER, campaign.id, reason="lunch")
    await look(desk.post)
    assert states(await seen(campaign))[0] == ("canary", "resting")
    async with desk.engine() as uow:
        await launch.resume(uow, TESTER, campaign.id, reason="back")
    await look(desk.post)
    await through(desk.post)
    assert len(await recipients(campaign)) == 100


async def test_a_canary_of_everybody_needs_no_look(desk: Desk) -> None:
    campaign = await waved(desk, 15, Delivery(canary=CANARY))
    await through(desk.post)
    assert states(await seen(campaign)) == [("canary", "through")]
    await went(campaign, Rejected("mailbox_unavailable", ""))
    await look(desk.post)
    await finish(desk.post)
    assert (await campaign.row())["state"] == "finished"


async def test_waves_of_nobody_end_at_once(desk: Desk) -> None:
    campaign = await waved(desk, 0, Delivery(canary=CANARY, ab_test=TEST))
    await through(desk.post)
    await finish(desk.post)
    assert (await campaign.row())["state"] == "finished"


async def test_who_joins_the_list_between_the_waves_changes_nothing(desk: Desk) -> None:
    campaign = await canary_gone(desk, 100)
    before = set(await recipients(campaign))
    later = await launched(desk, 50)
    await desk.post.execute(
        "INSERT INTO list_members (tenant_id, list_id, contact_id) SELECT tenant_id, $1, contact_id FROM list_members "
        "WHERE list_id = $2",
        campaign.list_id, later.list_id,
    )  # fmt: skip
    await desk.post.execute("UPDATE campaigns SET state = 'cancelled' WHERE id = $1", later.id)
    await look(desk.post)
    await through(desk.post)
    assert len(await recipients(campaign)) == 100
    assert before <= set(await recipients(campaign))


async def test_several_workers_look_once_and_queue_once(desk: Desk) -> None:
    campaign = await canary_gone(desk, 300)
    await asyncio.gather(*(look(desk.post) for _ in range(4)))
    decided = "SELECT count(*) FROM audit_log WHERE tenant_id = $1 AND action = 'campaign.wave_go_on'"
    assert await desk.post.value(decided, desk.tenant_id) == 1
    await asyncio.gather(*(fanned_out(desk.post) for _ in range(3)))
    await fanned_out(desk.post)
    assert len(await recipients(campaign)) == 300
    assert (await campaign.row())["expanded_count"] == 300


async def test_a_small_wave_looks_at_many_members_a_page(desk: Desk) -> None:
    await waved(desk, 1_500, Delivery(canary=Canary(share_percent=1, minimum_count=1)))
    await settle(desk.post)
    pages = 1
    while await fan_out(desk.post):
        pages += 1
    assert pages == 2, "1,500 members at a hundred a page"


async def test_a_look_that_fails_shows_as_trouble_and_is_made_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign = await canary_gone(desk, 100)

    def broken(*_arguments: object) -> judge.Figures:
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(judge, "figures", broken)
        await look(desk.post)
    assert (await campaign.row())["trouble"] == "an internal error (ZeroDivisionError)"
    await look(desk.post)
    assert first(await seen(campaign)).verdict == "go_on"
    assert (await campaign.row())["trouble"] is None


# A/B


async def test_variants_are_drawn_by_lot_and_the_rest_gets_the_one_that_did_best(desk: Desk) -> None:
    campaign = await waved(desk, 600, Delivery(ab_test=TEST))
    await through(desk.post)
    view = await seen(campaign)
    assert states(view) == [("test", "going_out"), ("rest", "waiting")]
    ids = await contents(campaign)
    tested = await recipients(campaign)
    assert len(tested) == first(view).member_count >= 240
    lots = [0 if lot < 5_000 else 1 if lot < 8_000 else 2 for lot in (bucket(campaign.id, x, LOT) for x in tested)]
    assert [tested[contact] for contact in tested] == [ids[lot] for lot in lots]
    assert min(Counter(lots).values()) >= 20
    while await went(campaign, Accepted()):
        pass
    await responded(campaign, ids[0], 100, 2, is_machine=True)
    await responded(campaign, ids[0], 3, 2)
    await responded(campaign, ids[1], 40, 2)
    await look(desk.post)
    await due(campaign)
    await look(desk.post)
    view = await seen(campaign)
    assert first(view).winner == "b"
    assert [score["clicked_count"] for score in first(view).found] == [3, 40, 0]
    await through(desk.post)
    everybody = await recipients(campaign)
    assert len(everybody) == 600
    assert {content for contact, content in everybody.items() if contact not in tested} == {ids[1]}
    async with desk.engine() as uow:
        fared = await variants.fared(uow, campaign.id)
        some = await desk.post.value("SELECT id FROM messages WHERE content_id = $1 LIMIT 1", ids[2])
        told = await variants.of_message(uow, some)
    assert [(each.name, each.is_winner, each.clicked_count) for each in fared] == [
        ("a", False, 3), ("b", True, 40), ("c", False, 0),
    ]  # fmt: skip
    assert fared[0].machine_clicked_count == 100
    assert (told.name, told.campaign_id) == ("c", campaign.id)


async def test_a_winner_chosen_by_hand_stays_and_nothing_else_is_taken(desk: Desk) -> None:
    campaign = await waved(desk, 100, Delivery(ab_test=TEST))
    await through(desk.post)
    async with desk.engine() as uow:
        with pytest.raises(Refused, match="choose one"):
            await waves.go_on(uow, TESTER, campaign.id, reason="x")
    async with desk.engine() as uow:
        with pytest.raises(Refused, match="must be one of a, b, c") as caught:
            await waves.choose(uow, TESTER, campaign.id, "d", reason="x")
    assert caught.value.field == "/variant"
    async with desk.engine() as uow:
        await waves.choose(uow, TESTER, campaign.id, "c", reason="we like it")
    for attempt in range(2):
        async with desk.engine() as uow:
            with pytest.raises(Refused, match="chosen already"):
                await waves.choose(uow, TESTER, campaign.id, "ab"[attempt], reason="x")
    tested = await recipients(campaign)
    await through(desk.post)
    await look(desk.post)
    everybody = await recipients(campaign)
    assert {everybody[each] for each in everybody if each not in tested} == {(await contents(campaign))[2]}
    assert first(await seen(campaign)).decided_by == TESTER.name


async def test_a_test_that_people_stopped_goes_on_with_the_winner_they_choose(desk: Desk) -> None:
    campaign = await waved(desk, 100, Delivery(ab_test=TEST))
    await through(desk.post)
    async with desk.engine() as uow:
        await waves.stop(uow, TESTER, campaign.id, reason="wait")
    async with desk.engine() as uow:
        await waves.choose(uow, TESTER, campaign.id, "b", reason="go")
    await through(desk.post)
    assert (await campaign.row())["state"] == "sending"
    assert len(await recipients(campaign)) == 100


async def test_a_test_of_everybody_has_no_waves_and_no_winner(desk: Desk) -> None:
    whole = AbTest(TEST.variants, audience_percent=100)
    campaign = await waved(desk, 400, Delivery(ab_test=whole))
    await through(desk.post)
    assert (await seen(campaign)).waves == []
    found = await recipients(campaign)
    ids = await contents(campaign)
    assert len(found) == 400
    assert {contact: ids.index(content) for contact, content in found.items()} == {
        contact: 0 if lot < 5_000 else 1 if lot < 8_000 else 2
        for contact, lot in ((each, bucket(campaign.id, each, LOT)) for each in found)
    }
    await went(campaign, Accepted())
    await finish(desk.post)
    assert (await campaign.row())["state"] == "finished"


async def test_a_canary_a_test_and_the_rest_follow_one_another(desk: Desk) -> None:
    campaign = await canary_gone(desk, 400, canary=Canary(share_percent=30, minimum_count=20), ab_test=TEST)
    ids = await contents(campaign)
    canary = await recipients(campaign)
    assert set(canary.values()) == set(ids), "the canary tries every variant"
    await look(desk.post)
    await through(desk.post)
    assert states(await seen(campaign)) == [("canary", "through"), ("test", "going_out"), ("rest", "waiting")]
    tested = await recipients(campaign)
    assert len(canary) < len(tested) < 400
    await went(campaign, Accepted())
    await responded(campaign, ids[2], 9, 2)
    await look(desk.post)
    await due(campaign)
    await look(desk.post)
    await through(desk.post)
    everybody = await recipients(campaign)
    assert len(everybody) == 400
    assert {everybody[each] for each in everybody if each not in tested} == {ids[2]}


# paces


async def test_a_pace_lets_go_what_its_time_has_made_ready_and_no_more(desk: Desk) -> None:
    campaign = await waved(desk, 50, Delivery(pacing=Pacing(per_hour=3_600)))
    await through(desk.post)
    async with desk.engine() as uow:
        await pacing.begin(uow, campaign.id, Delivery(pacing=Pacing(per_minute=1)), 50)
    lane = await campaign.lane()
    claim = await desk.claim(100, lane=lane)
    assert claim.batch is not None
    assert len(claim.batch.messages) == 1
    claim = await desk.claim(100, lane=lane)
    assert (claim.batch, claim.why) == (None, "pace of the campaign")
    assert claim.rest_s > 0
    assert (await seen(campaign)).pace_per_s == pytest.approx(1 / 60)
    await desk.post.execute("UPDATE buckets SET at_s = at_s - 86400 WHERE scope_id = $1", campaign.id)
    claim = await desk.claim(100, lane=lane)
    assert claim.batch is not None
    assert len(claim.batch.messages) == 1, "a day's pause is not made up for in a burst"


async def test_a_pace_is_shared_by_all_who_claim_and_given_back_when_a_narrower_limit_holds(desk: Desk) -> None:
    campaign = await waved(desk, 300, Delivery())
    await through(desk.post)
    async with desk.engine() as uow:
        await buckets.pace(uow, campaign.id, 40.0)
        await buckets.set_rate(uow, TESTER, "sender", desk.sender_id, 0.001, 5)
    await desk.post.execute("UPDATE buckets SET rate = 0.000001 WHERE scope_id = $1", campaign.id)
    lane = await campaign.lane()
    claims = await asyncio.gather(*(desk.claim(100, lane=lane) for _ in range(4)))
    assert sum(len(claim.batch.messages) for claim in claims if claim.batch) == 5
    left = "SELECT round(tokens)::int FROM buckets WHERE scope_id = $1"
    assert await desk.post.value(left, campaign.id) == 35
    async with desk.engine() as uow:
        await buckets.clear(uow, TESTER, "sender", desk.sender_id)
    claims = await asyncio.gather(*(desk.claim(100, lane=lane) for _ in range(4)))
    assert sum(len(claim.batch.messages) for claim in claims if claim.batch) == 35


async def test_the_pace_of_a_running_campaign_can_be_changed_and_lifted(desk: Desk) -> None:
    campaign = await waved(desk, 60, Delivery(pacing=Pacing(per_hour=1)))
    await through(desk.post)
    await went(campaign, Accepted(), limit=20)
    async with desk.engine() as uow:
        change = pacing.PaceChange(Pacing(spread_hours=1), "slower")
        assert await pacing.change(uow, TESTER, campaign.id, change) == pytest.approx(40 / 3600)
    async with desk.engine() as uow:
        assert await pacing.change(uow, TESTER, campaign.id, pacing.PaceChange(None)) is None
    assert (await seen(campaign)).pace_per_s is None
    assert await went(campaign, Accepted()) == 40
    await finish(desk.post)
    async with desk.engine() as uow:
        with pytest.raises(Refused, match="finished"):
            await pacing.change(uow, TESTER, campaign.id, pacing.PaceChange(None))


async def test_the_bucket_of_a_campaign_that_ended_is_dropped_a_day_later(desk: Desk) -> None:
    running, ended = await waved(desk, 1, Delivery()), await waved(desk, 1, Delivery())
    for campaign in (running, ended):
        async with desk.engine() as uow:
            await buckets.pace(uow, campaign.id, 1.0)
    await desk.post.execute(
        "UPDATE campaigns SET state = 'finished', finished_at = now() - interval '2 days' WHERE id = $1", ended.id
    )
    async with desk.engine() as uow:
        await LIMITS.paces_purge.run(uow.raw, 24, 1000)
    assert (await seen(ended)).pace_per_s is None
    assert (await seen(running)).pace_per_s == 1


async def test_contents_of_variants_are_kept_as_long_as_their_campaign(desk: Desk) -> None:
    campaign = await waved(desk, 1, Delivery(ab_test=TEST))
    await desk.post.execute("UPDATE contents SET created_at = '2020-01-01' WHERE tenant_id = $1", desk.tenant_id)
    async with desk.engine() as uow:
        await TEMPLATES.contents_purge.run(uow.raw, 30, 1000)
    kept = "SELECT count(*) FROM contents WHERE tenant_id = $1 AND id = ANY ($2)"
    assert await desk.post.value(kept, desk.tenant_id, await contents(campaign)) == 3


# all of it by itself


async def test_a_worker_brings_canary_test_and_rest_through_by_itself_at_its_pace(post: Post, desk: Desk) -> None:
    quick = Canary(share_percent=5, minimum_count=5, wait_minutes=0)
    test = AbTest(TEST.variants, audience_percent=30, wait_minutes=0, minimum_count=1)
    delivery = Delivery(canary=quick, ab_test=test, pacing=Pacing(per_minute=30_000))
    campaign = await waved(desk, 200, delivery)
    async with desk.engine() as uow:
        await pacing.begin(uow, campaign.id, delivery, 200)
    async with post.working(expand.loops(post.runtime)):
        await until(partial(_is, campaign, "finished"))
    view = await seen(campaign)
    assert states(view) == [("canary", "through"), ("test", "through"), ("rest", "through")]
    assert view.waves[1].winner == "a", "nobody clicked: the first"
    assert len(await recipients(campaign)) == 200
    taken = Counter(post.provider.addresses())
    mine = await post.fetch("SELECT address FROM messages WHERE campaign_id = $1", campaign.id)
    assert {taken[row["address"]] for row in mine} == {1}


async def test_a_worker_pauses_what_a_canary_stopped_and_sends_nothing_more(post: Post, desk: Desk) -> None:
    campaign = await waved(desk, 200, Delivery(canary=Canary(share_percent=5, minimum_count=5, wait_minutes=0)))
    post.provider.answer = lambda _message: Rejected("mailbox_unavailable", "")
    try:
        async with post.working(expand.loops(post.runtime)):
            await until(partial(_is, campaign, "paused"))
            await until(partial(_is_through, campaign))
    finally:
        post.provider.answer = lambda _message: Accepted()
    assert len(await recipients(campaign)) == first(await seen(campaign)).member_count < 200


async def _is(campaign: Campaign, state: str) -> bool:
    return bool((await campaign.row())["state"] == state)


async def _is_through(campaign: Campaign) -> bool:
    return not await campaign.desk.post.value(
        "SELECT count(*) FROM queue WHERE tenant_id = $1", campaign.desk.tenant_id
    )


async def test_lots_and_a_pace_go_with_local_hours(desk: Desk) -> None:
    at = datetime.now(UTC).replace(tzinfo=None, microsecond=0) + timedelta(days=2)
    whole = AbTest(TEST.variants, audience_percent=100)
    campaign = await waved(desk, 60, Delivery(local_time=LocalTime(at), ab_test=whole, pacing=Pacing(per_minute=60)))
    async with desk.engine() as uow:
        await buckets.pace(uow, campaign.id, 1.0)
    await through(desk.post)
    assert set((await recipients(campaign)).values()) == set(await contents(campaign))
    assert await went(campaign, Accepted()) == 0, "nobody's hour has come"
    await desk.post.execute("UPDATE queue SET state = 0, due_at = now() WHERE tenant_id = $1", desk.tenant_id)
    assert await went(campaign, Accepted()) == 1, "what becomes due at once goes at the pace"


# local times


async def zoned(desk: Desk, rule: LocalTime, zones: list[str | None], **columns: object) -> tuple[Campaign, list[UUID]]:
    """A campaign to one contact per zone, in their order."""
    campaign = await waved(desk, len(zones), Delivery(local_time=rule), **columns)
    rows = await desk.post.fetch(
        "SELECT contact_id FROM list_members WHERE list_id = $1 ORDER BY contact_id", campaign.list_id
    )
    ids = [row["contact_id"] for row in rows]
    for contact_id, zone in zip(ids, zones, strict=True):
        await desk.post.execute("UPDATE contacts SET timezone = $2 WHERE id = $1", contact_id, zone)
    return campaign, ids


async def queued_at(campaign: Campaign) -> dict[UUID, tuple[int, datetime]]:
    rows = await campaign.desk.post.fetch(
        "SELECT m.contact_id, q.state, q.due_at, m.due_at AS ledger_due_at FROM messages m "
        "JOIN queue q ON q.tenant_id = m.tenant_id AND q.message_id = m.id WHERE m.campaign_id = $1",
        campaign.id,
    )
    assert all(row["due_at"] == row["ledger_due_at"] for row in rows)
    return {row["contact_id"]: (row["state"], row["due_at"]) for row in rows}


async def test_everybody_gets_it_at_their_own_hour_and_the_easternmost_first(desk: Desk) -> None:
    day = datetime.now(UTC).replace(tzinfo=None, microsecond=0) + timedelta(days=30)
    at = day.replace(month=1, day=15, year=day.year + 1, hour=9, minute=0, second=0)
    zones = ["Pacific/Kiritimati", "europe/berlin", "UTC", "America/New_York", "Etc/GMT+12", None, "Mars/Olympus"]
    campaign, ids = await zoned(desk, LocalTime(at, fallback_zone="Asia/Tokyo"), zones)
    await through(desk.post)
    found = await queued_at(campaign)
    noon = at.replace(tzinfo=UTC)
    hours = [-14, -1, 0, 5, 12, -9, -9]
    assert [found[each] for each in ids] == [(4, noon + timedelta(hours=hour)) for hour in hours]
    await finish(desk.post)
    assert (await campaign.row())["state"] == "sending"


async def test_without_a_zone_an_attribute_or_the_tenants_zone_counts(desk: Desk) -> None:
    await desk.post.execute("UPDATE tenants SET timezone = 'Asia/Kolkata' WHERE id = $1", desk.tenant_id)
    at = datetime(datetime.now(UTC).year + 1, 1, 15, 9, 0)  # noqa: DTZ001 - a local time
    campaign, ids = await zoned(desk, LocalTime(at, attribute="tz"), [None, None, "UTC"])
    for contact_id in (ids[0], ids[2]):
        await desk.post.execute(
            'UPDATE contacts SET attributes = attributes || \'{"tz": "Europe/Berlin"}\' WHERE id = $1', contact_id
        )
    await through(desk.post)
    found = await queued_at(campaign)
    noon = at.replace(tzinfo=UTC)
    assert [found[each][1] - noon for each in ids] == [timedelta(hours=-1), timedelta(hours=-5.5), timedelta()]


@pytest.mark.parametrize("late", ["send", "skip"])
async def test_who_is_past_the_hour_gets_it_at_once_or_is_left_out(desk: Desk, late: str) -> None:
    at = datetime.now(UTC).replace(tzinfo=None, microsecond=0)
    rule = LocalTime(at, late=late)  # type: ignore[arg-type]  # both words
    campaign, ids = await zoned(desk, rule, ["Asia/Tokyo", "America/New_York"])
    await through(desk.post)
    found = await queued_at(campaign)
    assert found[ids[1]][0] == 4
    view, row = await seen(campaign), await campaign.row()
    if late == "send":
        assert found[ids[0]][0] == 0
        assert (view.late_count, row["expanded_count"]) == (0, 2)
    else:
        assert ids[0] not in found
        assert (view.late_count, row["expanded_count"]) == (1, 1)


@pytest.mark.parametrize(
    ("at", "zone", "utc"),
    [
        ("2027-03-28T02:30", "Europe/Berlin", datetime(2027, 3, 28, 1, 30, tzinfo=UTC)),
        ("2027-10-31T02:30", "Europe/Berlin", datetime(2027, 10, 31, 1, 30, tzinfo=UTC)),
        ("2027-03-14T02:30", "America/New_York", datetime(2027, 3, 14, 7, 30, tzinfo=UTC)),
        ("2027-11-07T01:30", "America/New_York", datetime(2027, 11, 7, 6, 30, tzinfo=UTC)),
    ],
)
async def test_an_hour_that_is_missing_comes_after_the_gap_and_one_that_comes_twice_counts_the_second_time(
    desk: Desk, at: str, zone: str, utc: datetime
) -> None:
    local = datetime.fromisoformat(at)
    rows = await desk.post.fetch("SELECT $1::timestamp AT TIME ZONE $2 AS due_at", local, zone)
    assert rows[0]["due_at"] == utc
    async with desk.engine() as uow:
        known = {row["name"]: row["due_at"] for row in await DELIVERY.zones.many(uow.raw, local)}
    assert known[zone.lower()] == utc
