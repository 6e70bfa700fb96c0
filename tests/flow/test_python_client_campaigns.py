"""Campaigns through the Python client, on a running API with the real channel: from the draft to the retry."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from outrider_client import (
    AbTest,
    ApiError,
    AsyncOutrider,
    Canary,
    Delivery,
    Exclusions,
    LocalTime,
    NewCampaign,
    Outrider,
    Pacing,
    Variant,
    campaigns,
    letters,
)
from outrider_client.campaigns_aio import AsyncCampaigns
from outrider_client.campaigns_sync import Campaigns
from outrider_client.reading import read

from outrider.base.ids import DEFAULT_TENANT
from outrider.domain.campaigns import approvals, retries, shown, trying, variants, views
from outrider.domain.tracking import results
from outrider.interfaces.api.v1 import tracking
from tests.kit.api import Api
from tests.kit.campaign_api import PEOPLE, campaign_api, draft, made, turn


@pytest.fixture
async def api(migrated_url: str, tmp_path: Path) -> AsyncIterator[Api]:
    async with campaign_api(migrated_url, tmp_path) as running:
        await running.user("ann@example.org")
        yield running


@pytest.fixture
async def campaign_id(api: Api) -> str:
    return (await draft(api, await api.signed_in("ann@example.org"))).rpartition("/")[2]


@pytest.fixture
async def client(api: Api) -> AsyncIterator[AsyncOutrider]:
    key = await api.key("campaigns:read", "campaigns:write", "messages:read", role="operator")
    async with AsyncOutrider(api.url, key) as found:
        yield found


async def test_a_campaign_from_the_draft_to_its_results(api: Api, client: AsyncOutrider, campaign_id: str) -> None:
    first = await client.campaigns.get(campaign_id)
    assert (first.state, first.name, first.delivery) == ("draft", "November", Delivery())
    assert first.template_id is not None
    new = NewCampaign(
        name="Second", sender_id=first.sender_id, template_id=first.template_id, list_id=first.list_id, priority=3,
        exclusions=Exclusions(campaign_ids=[campaign_id]), expires_at=datetime.now(UTC) + timedelta(days=1),
    )  # fmt: skip
    second = await client.campaigns.create(new)
    assert (second.name, second.priority, second.expires_at) == ("Second", 3, new.expires_at)
    changed = await client.campaigns.change(second.id, name="Another", expires_at=None)
    assert (changed.name, changed.expires_at, changed.priority) == ("Another", None, 3)
    assert [each.name async for each in client.campaigns.all(page_size=1)] == ["Another", "November"]
    await client.campaigns.delete(second.id)
    checked = await client.campaigns.preflight(campaign_id)
    assert (checked.will_go_count, checked.is_blocked, checked.raw["member_count"]) == (PEOPLE, False, PEOPLE)
    launched = await client.campaigns.launch(campaign_id, reason="it is time")
    assert launched.state == "sending"
    with pytest.raises(ApiError) as again:
        await client.campaigns.launch(campaign_id)
    assert (again.value.status, again.value.code) == (409, "not_draft")
    await turn(api)
    assert (await client.campaigns.pause(campaign_id, reason="wait")).state == "paused"
    assert (await client.campaigns.resume(campaign_id)).state == "sending"
    progress = await client.campaigns.progress(campaign_id)
    assert (progress.counts, progress.expansion.state, progress.is_finished) == ({"queued": PEOPLE}, "complete", False)
    assert (await client.campaigns.results(campaign_id)).opens.people == 0
    assert await client.campaigns.variant_results(campaign_id) == []
    assert (await client.campaigns.sheet(campaign_id))["campaign_id"] == campaign_id
    ended = await client.campaigns.cancel(campaign_id, reason="wrong list")
    assert (ended.state, ended.counts) == ("cancelled", {"cancelled": PEOPLE})
    page = await client.events(kinds=["campaign_launched", "campaign_cancelled"])
    assert [(each.kind, each.message_id, each.campaign_id) for each in page.items] == [
        ("campaign_launched", None, campaign_id),
        ("campaign_cancelled", None, campaign_id),
    ]
    assert page.items[0].data["reason"] == "it is time"


async def test_how_a_campaign_goes_out_and_what_people_decide(
    api: Api, client: AsyncOutrider, campaign_id: str
) -> None:
    compared = [Variant(name="a", share_percent=50), Variant(name="b", share_percent=50, subject="Another")]
    wanted = Delivery(
        pacing=Pacing(per_hour=3600),
        canary=Canary(share_percent=10, minimum_count=5, decision="by_hand"),
        ab_test=AbTest(variants=compared, audience_percent=50, decision="by_hand"),
    )
    kept = (await client.campaigns.set_delivery(campaign_id, wanted)).delivery
    assert kept.canary is not None
    assert kept.ab_test is not None
    assert (kept.pacing, kept.canary.minimum_count, kept.ab_test.variants) == (wanted.pacing, 5, compared)
    await client.campaigns.launch(campaign_id)
    await turn(api)
    progress = await client.campaigns.progress(campaign_id)
    assert progress.delivery is not None
    assert [(each.kind, each.state) for each in progress.delivery.waves][1:] == [
        ("test", "waiting"), ("rest", "waiting"),
    ]  # fmt: skip
    stopped = await client.campaigns.stop(campaign_id, reason="wrong link")
    assert (stopped.waits_for, stopped.waves[0].why) == ("decision", "wrong link")
    assert (await client.campaigns.go_on(campaign_id)).waves[0].verdict == "go_on"
    await turn(api)
    assert (await client.campaigns.choose_winner(campaign_id, "b")).waves[1].winner == "b"
    assert (await client.campaigns.set_pace(campaign_id, None)).pace_per_s is None
    fared = await client.campaigns.variant_results(campaign_id)
    assert [(each.name, each.is_winner) for each in fared] == [("a", False), ("b", True)]
    assert (await client.campaigns.delivery(campaign_id)).waves[1].winner == "b"


async def test_a_campaign_is_seen_tried_and_published(api: Api, client: AsyncOutrider, campaign_id: str) -> None:
    compared = [Variant(name="a", share_percent=50), Variant(name="b", share_percent=50, subject="Dear {{ name }}")]
    await client.campaigns.set_delivery(campaign_id, Delivery(ab_test=AbTest(variants=compared, decision="by_hand")))
    seen = await client.campaigns.preview(campaign_id, variant="b", variables={"name": "Ann"})
    assert (seen.subject, seen.variant, seen.variants, seen.raw["measure"]) == ("Dear Ann", "b", ["a", "b"], None)
    tried = await client.campaigns.test_send(campaign_id, ["ann@example.org"], variant="a")
    assert (len(tried.ids), tried.variant) == (1, "a")
    with pytest.raises(ApiError) as unknown:
        await client.campaigns.test_send(campaign_id, ["ann@example.org"], variant="c")
    assert (unknown.value.code, unknown.value.pointer) == ("unknown_variant", "/variant")
    await client.campaigns.launch(campaign_id)
    page = await client.campaigns.publish(campaign_id, {"name": "friend"})
    assert await client.campaigns.web_version(campaign_id) == page
    assert (page.url.startswith("https://news.example.org/v/"), page.variables) == (True, {"name": "friend"})
    await client.campaigns.unpublish(campaign_id)
    with pytest.raises(ApiError) as gone:
        await client.campaigns.web_version(campaign_id)
    assert gone.value.code == "not_published"


async def test_a_moment_a_local_hour_and_taking_back(client: AsyncOutrider, campaign_id: str) -> None:
    at = (datetime.now(UTC) + timedelta(days=2)).replace(tzinfo=None, microsecond=0)
    state = await client.campaigns.set_delivery(campaign_id, Delivery(local_time=LocalTime(at=at, late="skip")))
    assert state.delivery.local_time == LocalTime(at=at, late="skip")
    moment = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    scheduled = await client.campaigns.schedule(campaign_id, moment, reason="later")
    assert (scheduled.state, scheduled.launch_at) == ("scheduled", moment)
    assert (await client.campaigns.unschedule(campaign_id)).state == "draft"
    launched = await client.campaigns.launch(campaign_id, undo_s=600)
    assert launched.undo_until is not None
    left_s = (await client.campaigns.progress(campaign_id)).undo_left_s
    assert left_s is not None
    assert 0 < left_s <= 600
    assert (await client.campaigns.undo(campaign_id)).state == "draft"


async def test_an_approval_is_asked_for_and_taken_back_but_never_given_by_a_key(
    api: Api, client: AsyncOutrider, campaign_id: str
) -> None:
    owner = await api.signed_in("ann@example.org")
    made(await owner.patch(f"/api/v1/tenants/{DEFAULT_TENANT}", {"settings": {"approval_above_count": 1}}))
    with pytest.raises(ApiError) as refused:
        await client.campaigns.launch(campaign_id)
    assert [each.code for each in refused.value.errors] == ["approval_needed"]
    asked = await client.campaigns.request_approval(campaign_id, reason="please")
    assert (asked.state, asked.member_count) == ("waiting", PEOPLE)
    assert [each.id for each in await client.campaigns.approvals(state="waiting")] == [asked.id]
    assert (await client.campaigns.withdraw_approval(campaign_id)).state == "withdrawn"
    assert not any("approve" in name for name in vars(AsyncCampaigns))


async def test_what_failed_is_counted_and_sent_again(api: Api, client: AsyncOutrider, campaign_id: str) -> None:
    await client.campaigns.launch(campaign_id)
    await turn(api)
    async with api.engine() as uow:
        await uow.raw.execute("DELETE FROM queue")
        await uow.raw.execute("UPDATE messages SET state = 'failed', code = 'connection_failed', finished_at = now()")
        await uow.raw.execute(
            "INSERT INTO rollup_deltas (tenant_id, lane_id, hour, state, code, n) "
            "SELECT tenant_id, lane_id, date_trunc('hour', now()), 'failed', 'connection_failed', count(*) "
            "FROM messages GROUP BY 1, 2"
        )
    await turn(api, "finish_campaigns")
    due = await client.campaigns.retry_due(campaign_id)
    assert (due.count, due.failed) == (PEOPLE, {"connection_failed": PEOPLE})
    with pytest.raises(ApiError) as refused:
        await client.campaigns.retry(campaign_id, due.count - 1)
    assert refused.value.status == 409
    again = await client.campaigns.retry(campaign_id, due.count, reason="the server is back")
    assert (again.retry_of, again.state) == (campaign_id, "sending")


async def test_the_synchronous_client_does_the_same(api: Api, campaign_id: str) -> None:
    key = await api.key("campaigns:read", "campaigns:write", role="operator")

    def use() -> tuple[list[str], str, str]:
        with Outrider(api.url, key) as client:
            names = [each.name for each in client.campaigns.all(state="draft")]
            state = client.campaigns.launch(campaign_id).state
            return names, state, client.campaigns.progress(campaign_id).state

    assert await asyncio.to_thread(use) == (["November"], "sending", "sending")


def test_both_kinds_have_the_same_calls() -> None:
    def calls(kind: type[Any]) -> dict[str, list[str]]:
        found = {name: each for name, each in vars(kind).items() if not name.startswith("_")}
        return {name: list(inspect.signature(each).parameters) for name, each in found.items()}

    assert calls(Campaigns) == calls(AsyncCampaigns)
    assert {"create", "launch", "retry"} <= calls(Campaigns).keys()


def test_an_answer_without_what_is_needed_is_told_by_name() -> None:
    with pytest.raises(ValueError, match="has no 'hits'"):
        read(campaigns.Responses, {"people": 1, "machines": 0, "machine_hits": 0, "added_later": 5})


def test_every_field_that_the_client_reads_is_one_of_the_servers() -> None:
    pairs: tuple[tuple[type[Any], type[msgspec.Struct]], ...] = (
        (campaigns.Campaign, views.CampaignView), (campaigns.Preflight, views.Preflight),
        (campaigns.Progress, views.Progress), (campaigns.Expansion, views.Expansion),
        (campaigns.DeliveryState, shown.DeliveryView), (campaigns.Wave, shown.WaveView),
        (campaigns.Results, results.Results), (campaigns.VariantResult, variants.VariantResult),
        (campaigns.Approval, approvals.ApprovalView), (campaigns.RetryDue, retries.Due),
        (letters.Preview, trying.CampaignPreview), (letters.TestSend, trying.Tried),
        (letters.WebVersion, tracking.WebVersion),
    )  # fmt: skip
    for ours, theirs in pairs:
        known = {each.name for each in dataclasses.fields(ours)} - {"raw"}
        assert known <= set(theirs.__struct_fields__), ours
