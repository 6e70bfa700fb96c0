"""Campaigns from draft to end: what blocks a launch, what is frozen by it, and that stopping loses nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest

from outrider.base.errors import Refused, RefusedMany
from outrider.base.secret import Keyring, new_key
from outrider.data.db import Role
from outrider.data.egress import Egress
from outrider.data.link_dial import dial
from outrider.domain.campaigns import draft, launch, links, preflight, read
from outrider.domain.campaigns.draft import CampaignChange, NewCampaign
from outrider.domain.campaigns.views import CampaignView, Preflight
from outrider.domain.contacts import lists, suppressions
from outrider.domain.limits import buckets, plans, switches, warm_ups
from outrider.domain.limits.plans import Step
from outrider.domain.messages.fan_out import Plan, fan_out
from outrider.domain.senders import senders
from outrider.domain.senders.connections import StageView
from outrider.domain.templates import templates
from outrider.domain.templates.templates import Source
from tests.kit.audience import ACTOR
from tests.kit.office import Office, open_office


@pytest.fixture
async def office(migrated_url: str) -> AsyncIterator[Office]:
    async with open_office(migrated_url) as found:
        yield found


async def checked(office: Office, campaign_id: UUID) -> Preflight:
    async with office.app() as uow:
        return await preflight.preflight(uow, office.settings, office.vault, campaign_id, channels=office.channels)


async def launched(office: Office, campaign_id: UUID) -> CampaignView:
    async with office.engine() as uow:
        return await launch.launch(uow, office.settings, office.vault, ACTOR, campaign_id, channels=office.channels)


async def expanded(office: Office, campaign_id: UUID, *, limit: int = 1_000) -> int:
    """Queue one page, as the fan-out loop does."""
    async with office.engine() as uow:
        now = await read.get(uow, campaign_id)
        assert now.lane_id is not None
        what = (now.channel, now.content_id, now.purpose, now.priority, now.expires_at)
        plan = Plan(campaign_id, now.list_id, now.lane_id, *what)
        page = await fan_out(uow.raw, office.tenant, plan, after=None, limit=limit)
        await uow.raw.execute(
            "UPDATE campaigns SET expanded_count = expanded_count + $2, expanded_at = now() WHERE id = $1",
            campaign_id,
            page.queued,
        )
        return page.queued


def codes(found: Preflight, *, is_blocking: bool) -> list[str]:
    return [finding.code for finding in found.findings if finding.is_blocking is is_blocking]


async def test_a_draft_names_sender_template_and_list_that_exist_and_fit(office: Office) -> None:
    made = await office.campaign(priority=2)
    assert (made.state, made.channel, made.purpose, made.priority) == ("draft", "email", "marketing", 2)
    for name in ("sender_id", "template_id", "list_id"):
        with pytest.raises(Refused) as refused:
            await office.campaign("other", **{"sender_id": made.sender_id, "template_id": made.template_id,
                                              "list_id": made.list_id, name: uuid4()})  # fmt: skip
        assert (refused.value.http_status, refused.value.field) == (404, f"/{name}")
    with pytest.raises(Refused) as refused:
        await office.campaign(
            sender_id=made.sender_id, template_id=made.template_id, list_id=made.list_id, template_version=2
        )
    assert refused.value.field == "/version"
    with pytest.raises(Refused) as refused:
        await office.campaign(sender_id=made.sender_id, template_id=made.template_id, list_id=made.list_id)
    assert refused.value.code == "name_taken"


async def test_a_draft_is_changed_and_deleted_and_its_preflight_forgotten(office: Office) -> None:
    made = await office.campaign()
    await checked(office, made.id)
    async with office.app() as uow:
        assert (await read.get(uow, made.id)).preflight is not None
        now = await draft.update(uow, ACTOR, made.id, CampaignChange(name="December", purpose="news"))
        assert (now.name, now.purpose, now.preflight, now.sender_id) == ("December", "news", None, made.sender_id)
        await draft.delete(uow, ACTOR, made.id)
        with pytest.raises(Refused):
            await read.get(uow, made.id)


async def test_the_preflight_counts_everybody_once_by_what_stops_them(office: Office) -> None:
    list_id = await office.newsletter_list(10, without_consent=3, without_address=2)
    made = await office.campaign(list_id=list_id)
    members = await office.fetch(
        "SELECT address FROM addresses a JOIN list_members m ON m.contact_id = a.contact_id WHERE list_id = $1 "
        "ORDER BY a.contact_id",
        list_id,
    )
    async with office.app() as uow:
        for (address,) in (members[0], members[-1]):  # one of them has not consented either
            await suppressions.suppress(uow, office.channels, ACTOR, "email", address, scope="bulk", source="test")
    found = await checked(office, made.id)
    assert (found.member_count, found.no_address_count, found.suppressed_count) == (10, 2, 2)
    assert (found.without_consent_count, found.will_go_count) == (2, 4)
    assert codes(found, is_blocking=True) == []
    assert "without_consent" in codes(found, is_blocking=False)
    async with office.app() as uow:
        kept = (await read.get(uow, made.id)).preflight
    assert kept == found


async def test_an_entry_of_the_installation_counts_as_suppressed(office: Office) -> None:
    made = await office.campaign()
    ((address,), *_) = await office.fetch("SELECT address FROM addresses")
    async with office.db.uow(Role.ENGINE) as uow:
        await suppressions.suppress(uow, office.channels, ACTOR, "email", address, source="admin")
    assert (await checked(office, made.id)).suppressed_count == 1


async def test_without_required_consent_the_silent_are_written_to_and_those_who_withdrew_are_not(
    office: Office,
) -> None:
    made = await office.campaign(list_id=await office.newsletter_list(4, without_consent=2))
    await office.fetch(
        "UPDATE consents SET status = 'withdrawn' WHERE contact_id = (SELECT max(contact_id::text)::uuid FROM consents)"
    )
    assert (await checked(office, made.id)).will_go_count == 1
    await office.fetch("UPDATE tenants SET settings = '{\"consent_required\": false}'")
    found = await checked(office, made.id)
    assert (found.without_consent_count, found.will_go_count) == (1, 3)


async def test_the_end_is_estimated_from_the_narrowest_rate(office: Office) -> None:
    made = await office.campaign(expires_at=datetime.now(UTC) + timedelta(seconds=20))
    found = await checked(office, made.id)
    assert (found.rate_per_s, found.estimated_s) == (None, None)
    async with office.app() as uow:
        await buckets.set_rate(uow, ACTOR, "tenant", office.tenant, 5.0)
        await buckets.set_rate(uow, ACTOR, "sender", made.sender_id, 0.1)
    found = await checked(office, made.id)
    assert (found.rate_per_s, found.estimated_s) == (0.1, 30.0)
    assert "too_slow" in codes(found, is_blocking=False)


BLOCKED: dict[str, Any] = {
    "localhost_links": lambda office, _made: replace_settings(office, public_url="http://localhost:3000"),
    "list_empty": lambda office, _made: office.fetch("DELETE FROM list_members"),
    "nobody": lambda office, _made: office.fetch("DELETE FROM consents"),
    "expired": lambda office, _made: office.fetch("UPDATE campaigns SET expires_at = now() - interval '1 second'"),
    "sender_archived": lambda office, _made: office.fetch("UPDATE senders SET archived_at = now()"),
    "template_archived": lambda office, _made: office.fetch("UPDATE templates SET archived_at = now()"),
    "connection_unusable": lambda office, _made: another_key(office),
}


async def replace_settings(office: Office, **values: Any) -> None:
    office.settings = office.settings.model_copy(update=values)
    office.settings.__dict__.pop("public_host_is_local", None)


async def another_key(office: Office) -> None:
    office.vault = replace(office.vault, keyring=Keyring(new_key()))


@pytest.mark.parametrize("code", BLOCKED)
async def test_what_blocks_a_launch_is_named_and_nothing_is_sent(office: Office, code: str) -> None:
    made = await office.campaign()
    await BLOCKED[code](office, made)
    assert code in codes(await checked(office, made.id), is_blocking=True)
    with pytest.raises(RefusedMany) as refused:
        await launched(office, made.id)
    assert code in [error.code for error in refused.value.errors]
    assert refused.value.http_status == 409
    async with office.app() as uow:
        assert (await read.get(uow, made.id)).state == "draft"
    assert await office.fetch("SELECT count(*) FROM lanes") == [(0,)]


async def test_a_demo_says_explicitly_that_links_may_lead_to_this_machine(office: Office) -> None:
    made = await office.campaign()
    await replace_settings(office, public_url="http://127.0.0.1:3000", allow_localhost_links=True)
    assert (await launched(office, made.id)).state == "sending"


async def test_a_launch_freezes_the_latest_version_and_later_ones_are_not_sent(office: Office) -> None:
    made = await office.campaign()
    assert made.template_id is not None
    async with office.app() as uow:
        args = (uow, office.channels, office.renderer, ACTOR, made.template_id)
        second = await templates.add_version(*args, Source(subject="two", text="two"))
    done = await launched(office, made.id)
    assert (done.state, done.template_version, done.content_id) == ("sending", 2, second.content_id)
    assert done.lane_id is not None
    assert done.launched_at is not None
    assert done.preflight is not None
    async with office.app() as uow:
        args = (uow, office.channels, office.renderer, ACTOR, made.template_id)
        await templates.add_version(*args, Source(subject="three", text="three"))
        assert (await read.get(uow, made.id)).content_id == second.content_id


async def test_a_chosen_version_is_sent_whatever_came_after(office: Office) -> None:
    template = await office.template("letter")
    async with office.app() as uow:
        args = (uow, office.channels, office.renderer, ACTOR, template.id)
        await templates.add_version(*args, Source(subject="two", text="two"))
        first = await templates.version_of(uow, template.id, 1)
    made = await office.campaign(template_id=template.id, template_version=1)
    assert "older_version" in codes(await checked(office, made.id), is_blocking=False)
    assert (await launched(office, made.id)).content_id == first.content_id


async def test_launching_twice_is_refused_with_the_state_and_changes_nothing(office: Office) -> None:
    made = await office.campaign()
    results = await asyncio.gather(*(launched(office, made.id) for _ in range(4)), return_exceptions=True)
    refusals = [result for result in results if isinstance(result, Refused)]
    assert sum(isinstance(result, CampaignView) for result in results) == 1
    assert {(refusal.code, refusal.http_status, refusal.data["state"]) for refusal in refusals} == {
        ("not_draft", 409, "sending")
    }
    assert await office.fetch("SELECT count(*) FROM lanes") == [(1,)]
    assert await office.fetch("SELECT count(*) FROM audit_log WHERE action = 'campaign.launch'") == [(1,)]


async def test_a_launched_campaign_is_not_changed_or_deleted(office: Office) -> None:
    made = await office.campaign()
    await launched(office, made.id)
    async with office.app() as uow:
        for verb in (draft.update(uow, ACTOR, made.id, CampaignChange(name="x")), draft.delete(uow, ACTOR, made.id)):
            with pytest.raises(Refused) as refused:
                await verb
            assert (refused.value.code, refused.value.http_status) == ("not_draft", 409)


async def test_pause_and_resume_set_state_and_switch_and_may_be_repeated(office: Office) -> None:
    made = await office.campaign()
    await launched(office, made.id)
    for _ in range(2):
        async with office.app() as uow:
            assert (await launch.pause(uow, ACTOR, made.id, reason="wrong price")).state == "paused"
            assert (await read.progress(uow, made.id)).paused_by == ["campaign"]
            (switch,) = await switches.listed(uow)
            assert (switch.scope_id, switch.reason) == (str(made.id), "wrong price")
    for _ in range(2):
        async with office.app() as uow:
            assert (await launch.resume(uow, ACTOR, made.id, reason="mended")).state == "sending"
            assert (await read.progress(uow, made.id)).paused_by == []


async def test_a_draft_is_neither_paused_nor_resumed(office: Office) -> None:
    made = await office.campaign()
    for verb in (launch.pause, launch.resume):
        with pytest.raises(Refused) as refused:
            async with office.app() as uow:
                await verb(uow, ACTOR, made.id, reason="x")
        assert (refused.value.code, refused.value.data["state"]) == ("not_running", "draft")


async def test_a_pause_of_the_sender_shows_in_preflight_and_progress_and_blocks_nothing(office: Office) -> None:
    made = await office.campaign()
    async with office.app() as uow:
        await switches.pause(uow, ACTOR, "sender", str(made.sender_id), "test")
    assert "paused" in codes(await checked(office, made.id), is_blocking=False)
    await launched(office, made.id)
    async with office.app() as uow:
        assert (await read.progress(uow, made.id)).paused_by == ["sender"]


async def test_progress_counts_the_list_before_it_is_through_and_what_was_queued_after(office: Office) -> None:
    made = await office.campaign(list_id=await office.newsletter_list(5, without_address=2))
    await launched(office, made.id)
    async with office.app() as uow:
        before = await read.progress(uow, made.id)
    assert (before.total_count, before.expanded_count, before.is_expanded) == (5, 0, False)
    assert await expanded(office, made.id) == 3
    async with office.app() as uow:
        now = await read.progress(uow, made.id)
    assert (now.total_count, now.expanded_count, now.is_expanded) == (3, 3, True)
    assert (now.counts, now.ended_count, now.is_finished) == ({"queued": 3}, 0, False)
    assert now.estimated_at is None


async def test_cancelling_withdraws_what_waits_and_leaves_nothing_paused(office: Office) -> None:
    made = await office.campaign()
    await launched(office, made.id)
    await expanded(office, made.id)
    async with office.engine() as uow:
        assert (await launch.cancel(uow, ACTOR, made.id, reason="wrong list")).state == "cancelled"
    assert await launch.cancel_rest(office.db, office.tenant, ACTOR, made.id) == 0
    async with office.app() as uow:
        now = await read.progress(uow, made.id)
        assert await switches.listed(uow) == []
    assert (now.counts, now.ended_count, now.state) == ({"cancelled": 3}, 3, "cancelled")
    assert now.finished_at is not None
    with pytest.raises(Refused) as refused:
        async with office.engine() as uow:
            await launch.cancel(uow, ACTOR, made.id, reason="again")
    assert refused.value.data["state"] == "cancelled"


async def test_what_a_worker_hands_back_after_the_cancellation_is_withdrawn_too(office: Office) -> None:
    made = await office.campaign()
    await launched(office, made.id)
    await expanded(office, made.id)
    await office.fetch("UPDATE queue SET state = 1, token = 1, lease_until = now() + interval '1 minute'")
    async with office.engine() as uow:
        await launch.cancel(uow, ACTOR, made.id, reason="wrong list")
        (switch,) = await switches.listed(uow)
        assert switch.scope == "campaign"
    rest = asyncio.create_task(launch.cancel_rest(office.db, office.tenant, ACTOR, made.id))
    await asyncio.sleep(0)
    await office.fetch("UPDATE queue SET state = 0, token = NULL, lease_until = NULL")
    assert await rest == 0
    async with office.app() as uow:
        assert (await read.progress(uow, made.id)).counts == {"cancelled": 3}
        assert await switches.listed(uow) == []


async def test_a_cancelled_draft_has_queued_nothing(office: Office) -> None:
    made = await office.campaign()
    async with office.engine() as uow:
        assert (await launch.cancel(uow, ACTOR, made.id, reason="no")).state == "cancelled"
        assert await switches.listed(uow) == []


async def test_every_step_is_audited_with_its_reason(office: Office) -> None:
    made = await office.campaign()
    await launched(office, made.id)
    async with office.app() as uow:
        await launch.pause(uow, ACTOR, made.id, reason="wrong price")
        await launch.resume(uow, ACTOR, made.id, reason="mended")
    async with office.engine() as uow:
        await launch.cancel(uow, ACTOR, made.id, reason="enough")
    rows = await office.fetch("SELECT action, reason FROM audit_log WHERE target_id = $1 ORDER BY seq", str(made.id))
    assert rows == [
        ("campaign.create", "not given"),
        ("campaign.launch", "not given"),
        ("sending.pause", "wrong price"),
        ("sending.resume", "mended"),
        ("sending.pause", "enough"),
        ("campaign.cancel", "enough"),
    ]


async def test_links_that_were_tried_are_told_and_block_nothing(office: Office) -> None:
    made = await office.campaign()
    async with office.app() as uow:
        urls = await links.of_campaign(uow, office.channels, made.id)
    dialled = await dial([*urls, "http://127.0.0.1:9/"], Egress())
    async with office.app() as uow:
        found = await preflight.preflight(
            uow, office.settings, office.vault, made.id, channels=office.channels, dialled=dialled
        )
        kept = (await read.get(uow, made.id)).preflight
    assert "link_not_allowed" in codes(found, is_blocking=False)
    assert codes(found, is_blocking=True) == []
    assert found.dialled_links == dialled
    assert kept == found


async def test_another_tenant_can_do_nothing_with_it(office: Office) -> None:
    made = await office.campaign()
    other = await office.other_tenant()
    async with office.engine(other) as uow:
        for verb in (
            read.get(uow, made.id),
            read.progress(uow, made.id),
            preflight.preflight(uow, office.settings, office.vault, made.id, channels=office.channels),
            launch.launch(uow, office.settings, office.vault, ACTOR, made.id, channels=office.channels),
            launch.pause(uow, ACTOR, made.id, reason="x"),
            launch.cancel(uow, ACTOR, made.id, reason="x"),
            draft.delete(uow, ACTOR, made.id),
        ):
            with pytest.raises(Refused) as refused:
                await verb
            assert refused.value.http_status == 404
        assert await read.listed(uow, limit=10) == []
        new = NewCampaign("theirs", made.sender_id, made.template_id or uuid4(), made.list_id)
        with pytest.raises(Refused) as refused:
            await draft.create(uow, ACTOR, new)
        assert refused.value.field == "/sender_id"


async def test_campaigns_are_listed_newest_first_by_state(office: Office) -> None:
    first = await office.campaign("first")
    shared = msgspec.structs.asdict(first)
    names = ("sender_id", "template_id", "list_id")
    made = [first] + [await office.campaign(f"n{n}", **{name: shared[name] for name in names}) for n in range(3)]
    await launched(office, made[1].id)
    async with office.app() as uow:
        found = await read.listed(uow, limit=2)
        found += await read.listed(uow, limit=10, before=found[-1].id)
        assert [one.id for one in found] == [one.id for one in reversed(made)]
        assert [one.id for one in await read.listed(uow, limit=10, state="sending")] == [made[1].id]
        with pytest.raises(Refused):
            await read.listed(uow, limit=10, state="gone")


async def test_a_list_a_campaign_names_is_not_deleted(office: Office) -> None:
    made = await office.campaign()
    assert made.list_id is not None
    with pytest.raises(Refused) as refused:
        async with office.app() as uow:
            await lists.delete(uow, ACTOR, made.list_id)
    assert refused.value.code == "list_in_use"


async def test_a_failed_examination_is_told_and_blocks_nothing(office: Office) -> None:
    made = await office.campaign()
    async with office.app() as uow:
        stages = [StageView("tcp", is_ok=False, detail="refused")]
        found = await preflight.preflight(
            uow, office.settings, office.vault, made.id, channels=office.channels, stages=stages
        )
        await senders.get(uow, made.sender_id)
    assert "connection_failed" in codes(found, is_blocking=False)
    assert codes(found, is_blocking=True) == []


async def test_the_preflight_says_until_when_the_warm_up_of_the_sender_will_take(office: Office) -> None:
    made = await office.campaign()
    async with office.engine() as uow:
        plan = [Step(1), Step(1), Step(50)]
        await warm_ups.begin(uow, ACTOR, made.sender_id, plans.OWN, steps=plan)
    found = await checked(office, made.id)
    assert "warm_up" in codes(found, is_blocking=False)
    assert found.estimated_at is not None
    assert found.estimated_at > datetime.now(UTC) + timedelta(days=1)
    async with office.engine() as uow:
        await warm_ups.adjust(uow, ACTOR, made.sender_id, steps=[Step(5)])
    assert "warm_up" not in codes(await checked(office, made.id), is_blocking=False)
