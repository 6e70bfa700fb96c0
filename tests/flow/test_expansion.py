"""Queueing a campaign's list is seen from outside: how far, how fast, and what keeps it from going on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from outrider.base.errors import Broken, Unavailable
from outrider.domain.campaigns import launch, read
from outrider.domain.campaigns.views import Expansion
from outrider.domain.messages.fan_out import fan_out as queue_page
from outrider.engine.fanout import expand
from outrider.engine.loop import Loop
from tests.kit.api import runtime_for
from tests.kit.audience import ACTOR
from tests.kit.office import Office, open_office

PAGE = 100
Step = Callable[[], Awaitable[bool]]


@pytest.fixture
async def office(migrated_url: str) -> AsyncIterator[Office]:
    async with open_office(migrated_url, expand_batch=PAGE) as found:
        yield found


@pytest.fixture
async def fan_out(office: Office, migrated_url: str) -> AsyncIterator[Step]:
    """One round of a worker's loop: a page of every campaign that waits."""
    runtime = runtime_for(migrated_url, expand_batch=PAGE)
    (loop,) = (each for each in expand.loops(replace(runtime, db=office.db)) if each.name == "fan_out")
    assert isinstance(loop, Loop)
    yield loop.step
    await runtime.db.close()


async def seen(office: Office, campaign_id: UUID) -> Expansion:
    async with office.app() as uow:
        return (await read.progress(uow, campaign_id)).expansion


async def launched(office: Office, members: int, **more: Any) -> UUID:
    list_id = await office.newsletter_list(members, **more)
    campaign = await office.campaign(list_id=list_id)
    assert (await seen(office, campaign.id)).state == "draft"
    async with office.engine() as uow:
        await launch.launch(uow, office.settings, office.vault, ACTOR, campaign.id, channels=office.channels)
    return campaign.id


async def test_queueing_shows_how_far_it_is_and_when_it_will_be_through(office: Office, fan_out: Step) -> None:
    campaign_id = await launched(office, 250, without_address=10)
    found = await seen(office, campaign_id)
    assert (found.state, found.queued_count, found.total_count, found.last_page_at) == ("waiting", 0, 250, None)
    await fan_out()
    found = await seen(office, campaign_id)
    assert (found.state, found.queued_count + found.no_address_count) == ("running", PAGE)
    assert found.rate_per_s > 0
    assert found.estimated_at is not None
    assert found.last_page_at is not None
    async with office.app() as uow:
        await launch.pause(uow, ACTOR, campaign_id, reason="wait")
    assert (await seen(office, campaign_id)).state == "paused"
    async with office.app() as uow:
        await launch.resume(uow, ACTOR, campaign_id, reason="go on")
    while await fan_out():
        pass
    found = await seen(office, campaign_id)
    assert (found.state, found.queued_count, found.no_address_count) == ("complete", 240, 10)
    assert found.estimated_at is None


async def test_queueing_that_fails_says_why_and_since_when_until_it_goes_on(
    office: Office, fan_out: Step, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign_id = await launched(office, 250)
    await fan_out()
    monkeypatch.setattr(expand, "_BROKEN_REST_S", 0.0)
    for error, told in (
        (Broken("x", "the list is cursed"), "the list is cursed"),
        (ZeroDivisionError("secret"), "an "),
    ):

        async def fails(*_args: Any, error: Exception = error, **_more: Any) -> Any:
            raise error

        monkeypatch.setattr(expand, "fan_out", fails)
        await fan_out()
        found = await seen(office, campaign_id)
        assert (found.state, found.queued_count) == ("failing", PAGE)
        assert found.error is not None
        assert found.error.startswith(told)
        assert "secret" not in found.error
    first = found.failed_at
    assert first is not None
    await fan_out()
    assert (await seen(office, campaign_id)).failed_at == first
    monkeypatch.setattr(expand, "fan_out", queue_page)
    while await fan_out():
        pass
    found = await seen(office, campaign_id)
    assert (found.state, found.queued_count, found.error, found.failed_at) == ("complete", 250, None, None)


async def test_a_database_that_is_away_is_no_trouble_of_the_campaign(
    office: Office, fan_out: Step, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaign_id = await launched(office, 50)

    async def away(*_args: Any, **_more: Any) -> Any:
        raise Unavailable("database_unavailable", "away")

    monkeypatch.setattr(expand, "fan_out", away)
    with pytest.raises(Unavailable):
        await fan_out()
    assert (await seen(office, campaign_id)).state == "waiting"


async def test_queueing_of_a_cancelled_campaign_has_stopped(office: Office, fan_out: Step) -> None:
    campaign_id = await launched(office, 250)
    await fan_out()
    async with office.engine() as uow:
        await launch.cancel(uow, ACTOR, campaign_id, reason="wrong text")
    assert await fan_out() is False
    found = await seen(office, campaign_id)
    assert (found.state, found.queued_count, found.estimated_at) == ("stopped", PAGE, None)
