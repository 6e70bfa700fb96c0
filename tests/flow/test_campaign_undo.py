"""A launch can be taken back while its time runs; nothing is queued before, and one of undo and fan-out wins."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from outrider.base.errors import Refused, RefusedMany
from outrider.data.db import Role
from outrider.domain.campaigns import draft, launch, preflight, read, schedule
from outrider.domain.campaigns.launch import Launch
from outrider.domain.campaigns.schedule import Schedule
from outrider.domain.campaigns.views import CampaignView
from outrider.domain.limits import switches
from outrider.engine.fanout import expand
from tests.flow.test_campaign_schedule import ahead
from tests.kit.api import runtime_for
from tests.kit.audience import ACTOR
from tests.kit.office import Office, open_office

Step = Callable[[], Awaitable[bool]]


@pytest.fixture
async def office(migrated_url: str) -> AsyncIterator[Office]:
    async with open_office(migrated_url) as found:
        yield found


@pytest.fixture
async def steps(office: Office, migrated_url: str) -> AsyncIterator[dict[str, Step]]:
    runtime = runtime_for(migrated_url)
    mine = replace(
        runtime,
        db=office.db,
        settings=office.settings,
        providers=office.vault.providers,
        keyring=office.vault.keyring,
        channels=office.channels,
    )
    yield {loop.name: loop.step for loop in expand.loops(mine)}
    await runtime.db.close()


async def launched(office: Office, campaign_id: UUID, **wanted: Any) -> CampaignView:
    async with office.engine() as uow:
        return await launch.launch(
            uow, office.settings, office.vault, ACTOR, campaign_id, Launch(**wanted), channels=office.channels
        )


async def undone(office: Office, campaign_id: UUID, reason: str = "too early") -> CampaignView:
    async with office.engine() as uow:
        return await launch.undo(uow, ACTOR, campaign_id, reason=reason)


async def over(office: Office, campaign_id: UUID) -> None:
    """Let the time have passed in which it could be taken back."""
    await office.fetch("UPDATE campaigns SET undo_until = now() - interval '1 s' WHERE id = $1", campaign_id)


async def fanned_out(steps: dict[str, Step]) -> None:
    await steps["settle_audiences"]()
    while await steps["fan_out"]():
        pass


async def test_nothing_is_queued_while_it_can_be_taken_back_and_all_of_it_afterwards(
    office: Office, steps: dict[str, Step]
) -> None:
    campaign = await office.campaign()
    view = await launched(office, campaign.id, undo_s=600, reason="friday")
    assert view.undo_until is not None
    await fanned_out(steps)
    async with office.app() as uow:
        waiting = await read.progress(uow, campaign.id)
    assert (waiting.state, waiting.expanded_count, waiting.expansion.state) == ("sending", 0, "undoable")
    assert waiting.undo_left_s is not None
    assert 0 < waiting.undo_left_s <= 600
    await over(office, campaign.id)
    await fanned_out(steps)
    async with office.app() as uow:
        gone = await read.progress(uow, campaign.id)
    assert (gone.expanded_count, gone.undo_left_s, gone.expansion.state) == (3, None, "complete")
    with pytest.raises(Refused) as late:
        await undone(office, campaign.id)
    assert (late.value.code, late.value.http_status) == ("too_late_to_undo", 409)


async def test_what_is_taken_back_is_the_draft_it_was_and_can_be_launched_again(
    office: Office, steps: dict[str, Step]
) -> None:
    campaign = await office.campaign()
    await launched(office, campaign.id, undo_s=600)
    back = await undone(office, campaign.id)
    assert (back.state, back.launched_at, back.lane_id, back.undo_until) == ("draft", None, None, None)
    assert (back.template_version, back.preflight) == (None, None), "the latest version counts again"
    await over(office, campaign.id)
    await fanned_out(steps)
    assert await office.fetch("SELECT count(*) FROM messages") == [(0,)]
    async with office.app() as uow:
        await draft.update(uow, ACTOR, campaign.id, draft.CampaignChange(priority=2))
    await launched(office, campaign.id)
    await fanned_out(steps)
    assert await office.fetch("SELECT count(*) FROM messages") == [(3,)]
    told = await office.fetch("SELECT action, reason FROM audit_log WHERE action LIKE 'campaign.%' ORDER BY seq")
    assert told == [
        ("campaign.create", "not given"),
        ("campaign.launch", "not given"),
        ("campaign.undo", "too early"),
        ("campaign.update", "not given"),
        ("campaign.launch", "not given"),
    ]


async def test_the_tenants_setting_is_the_preset_and_a_launch_may_differ(office: Office) -> None:
    await office.fetch("UPDATE tenants SET settings = '{\"undo_window_s\": 60}' WHERE id = $1", office.tenant)
    assert (await launched(office, (await office.campaign("a")).id)).undo_until is not None
    assert (await launched(office, (await office.campaign("b")).id, undo_s=0)).undo_until is None


async def test_undoing_a_paused_one_takes_its_pause_away_with_it(office: Office) -> None:
    campaign = await office.campaign()
    await launched(office, campaign.id, undo_s=600)
    async with office.app() as uow:
        await launch.pause(uow, ACTOR, campaign.id, reason="wait")
    assert (await undone(office, campaign.id)).state == "draft"
    async with office.app() as uow:
        assert await switches.listed(uow) == []


async def test_only_a_launched_one_can_be_taken_back(office: Office) -> None:
    campaign = await office.campaign()
    with pytest.raises(Refused) as never:
        await undone(office, campaign.id)
    assert never.value.code == "not_running"
    await launched(office, campaign.id, undo_s=0)
    with pytest.raises(Refused) as at_once:
        await undone(office, campaign.id)
    assert at_once.value.code == "too_late_to_undo"
    with pytest.raises(Refused) as unknown:
        await undone(office, UUID(int=7))
    assert unknown.value.code == "not_found"


async def test_of_undo_and_fan_out_at_the_same_moment_one_wins(office: Office, steps: dict[str, Step]) -> None:
    campaigns = [await office.campaign(f"c{n}") for n in range(6)]
    for campaign in campaigns:
        await launched(office, campaign.id, undo_s=600)
    await office.fetch("UPDATE campaigns SET undo_until = clock_timestamp() + interval '0.15 s'")

    async def trial(campaign_id: UUID) -> bool:
        while True:
            try:
                await undone(office, campaign_id)
            except Refused as refused:
                assert refused.code == "too_late_to_undo"  # noqa: PT017 - both ends are right, and the row must agree
                return False
            return True

    async def expand_all() -> None:
        for _ in range(40):
            await steps["fan_out"]()

    back, _ = await asyncio.gather(asyncio.gather(*(trial(each.id) for each in campaigns)), expand_all())
    while await steps["fan_out"]():
        pass
    for campaign, is_back in zip(campaigns, back, strict=True):
        rows = await office.fetch("SELECT count(*) FROM messages WHERE campaign_id = $1", campaign.id)
        async with office.app() as uow:
            state = (await read.get(uow, campaign.id)).state
        assert (state, rows) == (("draft", [(0,)]) if is_back else ("sending", [(3,)]))


async def test_a_first_campaign_without_anybody_on_the_do_not_contact_list_asks(office: Office) -> None:
    await office.fetch("DELETE FROM suppressions")
    campaign = await office.campaign()
    async with office.app() as uow:
        found = await preflight.preflight(uow, office.settings, office.vault, campaign.id, channels=office.channels)
    (asked,) = [each for each in found.findings if each.code == "empty_suppressions"]
    assert (asked.is_blocking, asked.is_acknowledgeable, asked.is_acknowledged) == (True, True, False)
    with pytest.raises(RefusedMany) as refused:
        await launched(office, campaign.id)
    assert refused.value.code == "empty_suppressions"
    with pytest.raises(Refused) as odd:
        await launched(office, campaign.id, acknowledge=["list_empty"])
    assert (odd.value.code, odd.value.field) == ("unknown_acknowledgement", "/acknowledge/0")
    view = await launched(office, campaign.id, acknowledge=["empty_suppressions"])
    assert (view.state, view.acknowledged) == ("sending", ["empty_suppressions"])
    ((details,),) = await office.fetch(
        "SELECT details ->> 'acknowledged' FROM audit_log WHERE action = 'campaign.launch'"
    )
    assert "empty_suppressions" in details
    second = await office.campaign("second")
    assert (await launched(office, second.id)).state == "sending", "only the first one asks"


async def test_a_scheduled_one_keeps_what_was_acknowledged_until_its_moment(office: Office) -> None:
    await office.fetch("DELETE FROM suppressions")
    campaign = await office.campaign()
    async with office.app() as uow:
        wanted = Schedule(ahead(hours=1), "before the holidays", ["empty_suppressions"])
        await schedule.schedule(
            uow, office.settings, office.vault, ACTOR, campaign.id, wanted, channels=office.channels
        )
    await office.fetch("UPDATE campaigns SET launch_at = now() - interval '1 s'")
    given = await schedule.launch_due(
        office.db, office.settings, office.vault, office.tenant, campaign.id, channels=office.channels
    )
    assert given == "launched"
    told = await office.fetch("SELECT reason FROM audit_log WHERE action = 'campaign.schedule'")
    assert told == [("before the holidays",)]


async def test_links_to_the_readers_own_machine_refuse_the_launch_and_others_are_told(office: Office) -> None:
    html = '<a href="http://localhost:8000/x">here</a> <a href="http://shop.example">shop</a>'
    template = await office.template("local", text=None, html=html)
    campaign = await office.campaign(template_id=template.id)
    with pytest.raises(RefusedMany) as refused:
        await launched(office, campaign.id)
    assert {each.code for each in refused.value.errors} == {"local_link"}
    async with office.db.uow(Role.APP, office.tenant) as uow:
        found = await preflight.look(uow, office.settings, office.vault, campaign.id, channels=office.channels)
    assert {"insecure_link", "no_unsubscribe_link"} <= {each.code for each in found.findings}
