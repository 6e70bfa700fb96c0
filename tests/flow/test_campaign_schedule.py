"""A scheduled campaign waits for its moment, is launched once by the database's clock, and can be taken back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from outrider.base.errors import Refused
from outrider.domain.campaigns import launch, read, schedule
from outrider.domain.campaigns.schedule import Schedule
from outrider.domain.campaigns.views import CampaignView
from outrider.engine.fanout import expand
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
    """The rounds of a worker's loops by name."""
    runtime = runtime_for(migrated_url)
    mine = replace(
        runtime, db=office.db, settings=office.settings, providers=office.vault.providers, keyring=office.vault.keyring
    )
    yield {loop.name: loop.step for loop in expand.loops(mine)}
    await runtime.db.close()


def ahead(**by: float) -> datetime:
    return datetime.now(UTC) + timedelta(**by)


async def scheduled(office: Office, moment: datetime) -> CampaignView:
    campaign = await office.campaign()
    async with office.app() as uow:
        return await schedule.schedule(
            uow, office.settings, office.vault, ACTOR, campaign.id, Schedule(moment), channels=office.channels
        )


async def come(office: Office, campaign_id: UUID) -> None:
    """Let its moment have come."""
    await office.fetch("UPDATE campaigns SET launch_at = now() - interval '1 s' WHERE id = $1", campaign_id)


async def now(office: Office, campaign_id: UUID) -> CampaignView:
    async with office.app() as uow:
        return await read.get(uow, campaign_id)


async def actions(office: Office, campaign_id: UUID) -> list[str]:
    rows = await office.fetch("SELECT action FROM audit_log WHERE target_id = $1 ORDER BY seq", str(campaign_id))
    return [action for (action,) in rows]


async def test_nothing_happens_before_the_moment_and_the_launch_when_it_has_come(
    office: Office, steps: dict[str, Step]
) -> None:
    campaign = await scheduled(office, ahead(hours=1))
    for _ in range(2):
        await steps["launch_scheduled"]()
        await steps["fan_out"]()
    waiting = await now(office, campaign.id)
    assert (waiting.state, waiting.launched_at, waiting.expanded_count) == ("scheduled", None, 0)
    await come(office, campaign.id)
    await steps["launch_scheduled"]()
    while await steps["fan_out"]():
        pass
    sent = await now(office, campaign.id)
    assert (sent.state, sent.expanded_count) == ("sending", 3)
    assert (await actions(office, campaign.id))[-2:] == ["campaign.schedule", "campaign.launch"]


async def test_two_workers_launch_it_once(office: Office, steps: dict[str, Step]) -> None:
    campaign = await scheduled(office, ahead(hours=1))
    await come(office, campaign.id)
    came = await asyncio.gather(
        *(
            schedule.launch_due(
                office.db, office.settings, office.vault, office.tenant, campaign.id, channels=office.channels
            )
            for _ in range(4)
        )
    )
    assert sorted(came, key=str) == [None, None, None, "launched"]
    await steps["launch_scheduled"]()
    assert (await actions(office, campaign.id)).count("campaign.launch") == 1


async def test_what_was_taken_back_is_a_draft_and_is_not_launched(office: Office, steps: dict[str, Step]) -> None:
    campaign = await scheduled(office, ahead(hours=1))
    async with office.app() as uow:
        await schedule.unschedule(uow, ACTOR, campaign.id, reason="not yet")
    await steps["launch_scheduled"]()
    found = await now(office, campaign.id)
    assert (found.state, found.launch_at) == ("draft", None)
    async with office.app() as uow:
        with pytest.raises(Refused) as refused:
            await schedule.unschedule(uow, ACTOR, campaign.id, reason="again")
    assert refused.value.code == "not_scheduled"
    assert (await actions(office, campaign.id))[-1] == "campaign.unschedule"


async def test_a_scheduled_one_is_not_launched_by_hand_nor_paused_but_can_be_cancelled(office: Office) -> None:
    campaign = await scheduled(office, ahead(hours=1))
    async with office.engine() as uow:
        with pytest.raises(Refused) as by_hand:
            await launch.launch(uow, office.settings, office.vault, ACTOR, campaign.id, channels=office.channels)
        with pytest.raises(Refused) as paused:
            await launch.pause(uow, ACTOR, campaign.id, reason="wait")
    assert (by_hand.value.code, paused.value.code) == ("not_draft", "not_running")
    async with office.engine() as uow:
        await launch.cancel(uow, ACTOR, campaign.id, reason="never")
    await come(office, campaign.id)
    given = await schedule.launch_due(
        office.db, office.settings, office.vault, office.tenant, campaign.id, channels=office.channels
    )
    assert given is None
    assert (await now(office, campaign.id)).state == "cancelled"


async def test_what_blocks_it_when_its_moment_comes_makes_it_a_draft_that_says_why(
    office: Office, steps: dict[str, Step]
) -> None:
    campaign = await scheduled(office, ahead(hours=1))
    await office.fetch("DELETE FROM list_members WHERE list_id = $1", campaign.list_id)
    await come(office, campaign.id)
    await steps["launch_scheduled"]()
    found = await now(office, campaign.id)
    assert found.state == "draft"
    assert found.launch_trouble is not None
    assert found.launch_trouble.startswith("list_empty: ")
    assert (await actions(office, campaign.id))[-1] == "campaign.launch_refused"


async def test_moments_that_cannot_be_meant_are_refused(office: Office) -> None:
    for moment in (ahead(seconds=-1), ahead(days=367)):
        campaign = await office.campaign(f"at {moment}")
        async with office.app() as uow:
            with pytest.raises(Refused) as refused:
                await schedule.schedule(
                    uow, office.settings, office.vault, ACTOR, campaign.id, Schedule(moment), channels=office.channels
                )
        assert (refused.value.code, refused.value.field) == ("not_ahead", "/launch_at")
        assert (await now(office, campaign.id)).state == "draft"
    short = await office.campaign("short", expires_at=ahead(hours=1))
    async with office.app() as uow:
        with pytest.raises(Refused) as before:
            await schedule.schedule(
                uow, office.settings, office.vault, ACTOR, short.id, Schedule(ahead(hours=2)), channels=office.channels
            )
    assert before.value.code == "expires_before"
