"""A campaign to many needs a second person's yes to exactly what would be sent; everything else voids it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest

from outrider.base.errors import Refused, RefusedMany
from outrider.contracts.actor import Actor
from outrider.domain.campaigns import approvals, audience, draft, launch, read, schedule
from outrider.domain.campaigns.approvals import ApprovalView, Who
from outrider.domain.campaigns.schedule import Schedule
from outrider.domain.campaigns.views import CampaignView, Exclusions
from outrider.domain.senders import senders
from outrider.domain.templates import templates
from outrider.domain.templates.templates import Source
from outrider.domain.tenants import keys
from outrider.engine.fanout import expand
from tests.flow.test_campaign_schedule import ahead
from tests.kit.api import runtime_for
from tests.kit.audience import ACTOR
from tests.kit.office import Office, open_office

ANN = Who(Actor("user", "ann@example.org"), uuid4(), may_approve=True)
BOB = Who(Actor("user", "bob@example.org"), uuid4(), may_approve=True)
CAROL = Who(Actor("user", "carol@example.org"), uuid4(), may_approve=False)


@pytest.fixture
async def office(migrated_url: str) -> AsyncIterator[Office]:
    async with open_office(migrated_url) as found:
        await found.fetch("UPDATE tenants SET settings = '{\"approval_above_count\": 2}' WHERE id = $1", found.tenant)
        yield found


async def asked(office: Office, campaign_id: UUID, who: Who = ANN) -> ApprovalView:
    async with office.app() as uow:
        return await launch.ask_approval(
            uow, office.settings, office.vault, who, campaign_id, channels=office.channels, reason="the spring sale"
        )


async def decided(office: Office, campaign_id: UUID, who: Who = BOB, *, yes: bool = True) -> ApprovalView:
    async with office.app() as uow:
        return await approvals.decide(uow, who, campaign_id, yes=yes, reason="read it")


async def launched(office: Office, campaign_id: UUID) -> CampaignView:
    async with office.engine() as uow:
        return await launch.launch(uow, office.settings, office.vault, ACTOR, campaign_id, channels=office.channels)


async def refusal(office: Office, campaign_id: UUID) -> str:
    """Why it cannot be launched: the one code."""
    with pytest.raises(RefusedMany) as refused:
        await launched(office, campaign_id)
    (error,) = refused.value.errors
    return error.code


async def test_above_the_size_nothing_goes_without_a_second_persons_yes(office: Office) -> None:
    campaign = await office.campaign()
    assert await refusal(office, campaign.id) == "approval_needed"
    request = await asked(office, campaign.id)
    assert (request.state, request.member_count, request.requested_by) == ("waiting", 3, "ann@example.org")
    assert await refusal(office, campaign.id) == "approval_waiting"
    given = await decided(office, campaign.id)
    assert (given.state, given.decided_by, given.decision_reason) == ("approved", "bob@example.org", "read it")
    assert (await launched(office, campaign.id)).state == "sending"
    told = await office.fetch("SELECT actor, action FROM audit_log WHERE action ~ 'appro' ORDER BY seq")
    assert told == [("ann@example.org", "campaign.approval_request"), ("bob@example.org", "campaign.approve")]


async def test_up_to_the_size_nobody_is_asked(office: Office) -> None:
    campaign = await office.campaign(list_id=await office.newsletter_list(2))
    with pytest.raises(Refused) as refused:
        await asked(office, campaign.id)
    assert refused.value.code == "not_needed"
    assert (await launched(office, campaign.id)).state == "sending"


async def test_nobody_approves_what_they_or_a_key_of_theirs_asked(office: Office) -> None:
    campaign = await office.campaign()
    await asked(office, campaign.id)
    for who in (ANN, Who(Actor("user", "renamed@example.org"), ANN.user_id, may_approve=True)):
        with pytest.raises(Refused) as own:
            await decided(office, campaign.id, who)
        assert (own.value.code, own.value.http_status) == ("own_request", 403)
    by_key = await office.campaign("by key")
    async with office.app() as uow:
        first, _ = await keys.create(uow, ANN.actor, name="first", role="admin", scopes=["keys:write"])
        second, _ = await keys.create(
            uow, Actor("key", first.name), name="second", role="operator", scopes=["campaigns:write"]
        )
    await asked(office, by_key.id, Who(Actor("key", second.name), key_id=second.id))
    with pytest.raises(Refused) as behind:
        await decided(office, by_key.id, ANN)
    assert behind.value.code == "own_request", "a key made by a key made by Ann is Ann"
    assert (await decided(office, by_key.id)).state == "approved"


async def test_keys_and_people_below_admin_do_not_answer(office: Office) -> None:
    campaign = await office.campaign()
    await asked(office, campaign.id)
    key = Who(Actor("key", "robot"), key_id=uuid4(), may_approve=True)
    for who in (CAROL, key):
        for yes in (True, False):
            with pytest.raises(Refused) as refused:
                await decided(office, campaign.id, who, yes=yes)
            assert refused.value.code == "forbidden"


async def _edit(office: Office, campaign: CampaignView, what: str) -> None:
    """Change one thing about what would go out."""
    async with office.app() as uow:
        if what == "draft":
            await draft.update(uow, ACTOR, campaign.id, draft.CampaignChange(purpose="service"))
        elif what == "template":
            assert campaign.template_id is not None
            source = Source(subject="Buy now", text="Other words")
            await templates.add_version(uow, office.channels, office.renderer, ACTOR, campaign.template_id, source)
        elif what == "sender":
            change = senders.SenderChange(from_name="Somebody Else")
            await senders.update(uow, office.channels, office.vault, ACTOR, campaign.sender_id, change)


@pytest.mark.parametrize("what", ["draft", "template", "sender"])
async def test_a_change_after_the_approval_voids_it(office: Office, what: str) -> None:
    campaign = await office.campaign()
    await asked(office, campaign.id)
    await decided(office, campaign.id)
    await _edit(office, campaign, what)
    if what == "draft":
        await office.fetch("UPDATE consents SET purpose = 'service'")
    assert await refusal(office, campaign.id) == "approval_outdated"
    again = await asked(office, campaign.id)
    assert again.state == "waiting"
    assert (await decided(office, campaign.id)).state == "approved"
    assert (await launched(office, campaign.id)).state == "sending"


async def test_a_change_between_request_and_answer_is_not_approved_unseen(office: Office) -> None:
    campaign = await office.campaign()
    await asked(office, campaign.id)
    await _edit(office, campaign, "template")
    with pytest.raises(Refused) as refused:
        await decided(office, campaign.id)
    assert refused.value.code == "approval_outdated"


async def test_a_list_that_grows_by_more_than_a_tenth_outgrows_it(office: Office) -> None:
    people = await office.newsletter_list(20)
    campaign = await office.campaign(list_id=people)
    await asked(office, campaign.id)
    await decided(office, campaign.id)
    for count, code in ((2, None), (1, "approval_outgrown")):
        more = await office.newsletter_list(count)
        await office.fetch(
            "INSERT INTO list_members (tenant_id, list_id, contact_id) SELECT tenant_id, $1, contact_id "
            "FROM list_members WHERE list_id = $2",
            people, more,
        )  # fmt: skip
        if code is not None:
            assert await refusal(office, campaign.id) == code
        else:
            async with office.app() as uow:
                assert await approvals.findings(uow, {"approval_above_count": 2}, campaign, ahead(seconds=0), 22) == []


async def test_it_expires_unless_it_was_scheduled_in_time(office: Office) -> None:
    campaign = await office.campaign()
    await asked(office, campaign.id)
    await office.fetch("UPDATE campaign_approvals SET expires_at = now()")
    with pytest.raises(Refused) as late:
        await decided(office, campaign.id)
    assert late.value.code == "approval_expired"
    async with office.app() as uow:
        assert [one.state for one in await approvals.listed(uow, limit=10)] == ["expired"]
    await asked(office, campaign.id)
    await decided(office, campaign.id)
    async with office.app() as uow:
        moment = Schedule(ahead(hours=1))
        await schedule.schedule(
            uow, office.settings, office.vault, ACTOR, campaign.id, moment, channels=office.channels
        )
    await office.fetch("UPDATE campaign_approvals SET expires_at = now()")
    await office.fetch("UPDATE campaigns SET launch_at = now() - interval '1 s'")
    arguments: tuple[Any, ...] = (office.db, office.settings, office.vault, office.tenant, campaign.id)
    assert await schedule.launch_due(*arguments, channels=office.channels) == "launched"


async def test_a_scheduled_one_whose_template_changes_is_not_launched(office: Office) -> None:
    campaign = await office.campaign()
    async with office.app() as uow:
        with pytest.raises(RefusedMany) as unapproved:
            await schedule.schedule(
                uow,
                office.settings,
                office.vault,
                ACTOR,
                campaign.id,
                Schedule(ahead(hours=1)),
                channels=office.channels,
            )
    assert unapproved.value.code == "approval_needed"
    await asked(office, campaign.id)
    await decided(office, campaign.id)
    async with office.app() as uow:
        await schedule.schedule(
            uow, office.settings, office.vault, ACTOR, campaign.id, Schedule(ahead(hours=1)), channels=office.channels
        )
    await _edit(office, campaign, "template")
    await office.fetch("UPDATE campaigns SET launch_at = now() - interval '1 s'")
    arguments: tuple[Any, ...] = (office.db, office.settings, office.vault, office.tenant, campaign.id)
    assert await schedule.launch_due(*arguments, channels=office.channels) == "draft"
    async with office.app() as uow:
        found = await read.get(uow, campaign.id)
    assert found.launch_trouble is not None
    assert found.launch_trouble.startswith("approval_outdated: ")


async def test_a_rejection_says_why_and_a_request_can_be_withdrawn(office: Office) -> None:
    campaign = await office.campaign()
    await asked(office, campaign.id)
    with pytest.raises(Refused) as twice:
        await asked(office, campaign.id)
    assert twice.value.code == "approval_asked"
    assert (await decided(office, campaign.id, yes=False)).state == "rejected"
    with pytest.raises(RefusedMany) as refused:
        await launched(office, campaign.id)
    assert (refused.value.code, refused.value.errors[0].message) == (
        "approval_rejected",
        "bob@example.org rejected it: read it",
    )
    await asked(office, campaign.id)
    async with office.app() as uow:
        assert (await approvals.withdraw(uow, ANN, campaign.id, reason="not yet")).state == "withdrawn"
    assert await refusal(office, campaign.id) == "approval_needed"
    with pytest.raises(Refused) as nothing:
        await decided(office, campaign.id)
    assert nothing.value.code == "not_waiting"
    async with office.app() as uow:
        states = [one.state for one in await approvals.listed(uow, limit=10, campaign_id=campaign.id)]
        waiting = await approvals.listed(uow, limit=10, state="waiting")
    assert (states, waiting) == (["withdrawn", "rejected"], [])


async def test_what_cannot_be_sent_is_not_put_before_anybody(office: Office) -> None:
    campaign = await office.campaign()
    await office.fetch("UPDATE senders SET archived_at = now()")
    with pytest.raises(RefusedMany) as refused:
        await asked(office, campaign.id)
    assert refused.value.code == "sender_archived"


async def test_undoing_leaves_the_approval_as_it_is(office: Office) -> None:
    campaign = await office.campaign()
    await asked(office, campaign.id)
    await decided(office, campaign.id)
    async with office.engine() as uow:
        wanted = launch.Launch(undo_s=600)
        await launch.launch(uow, office.settings, office.vault, ACTOR, campaign.id, wanted, channels=office.channels)
        await launch.undo(uow, ACTOR, campaign.id, reason="wait")
    assert (await launched(office, campaign.id)).state == "sending"


async def test_who_joins_the_list_after_the_launch_gets_nothing_that_nobody_approved(
    office: Office, migrated_url: str
) -> None:
    people = await office.newsletter_list(2)
    campaign = await office.campaign(list_id=people)
    await launched(office, campaign.id)
    await _join(office, people, await office.newsletter_list(30))
    runtime = runtime_for(migrated_url)
    (loop,) = (each for each in expand.loops(replace(runtime, db=office.db)) if each.name == "fan_out")
    while await loop.step():
        pass
    await runtime.db.close()
    assert await office.fetch("SELECT expanded_count, joined_count FROM campaigns") == [(2, 0)]


async def test_an_audience_that_outgrew_its_approval_after_the_launch_is_not_queued(office: Office) -> None:
    people, gone = await office.newsletter_list(20), await office.newsletter_list(1)
    campaign = await office.campaign(list_id=people, exclusions=Exclusions(list_ids=[gone]))
    await asked(office, campaign.id)
    await decided(office, campaign.id)
    later = await office.newsletter_list(30)
    await launched(office, campaign.id)
    await _join(office, people, later)
    with pytest.raises(Refused) as refused:
        await audience.settle(office.db, office.tenant, campaign.id)
    assert refused.value.code == "approval_outgrown"
    assert await office.fetch("SELECT expanded_count, audience_at FROM campaigns") == [(0, None)]
    await office.fetch(
        "DELETE FROM list_members WHERE contact_id IN (SELECT contact_id FROM list_members WHERE list_id = $1)", later
    )
    assert await audience.settle(office.db, office.tenant, campaign.id) == 20


async def test_other_gates_of_the_draft_are_another_campaign_than_was_approved(office: Office) -> None:
    campaign = await office.campaign()
    await asked(office, campaign.id)
    await decided(office, campaign.id)
    await office.fetch(
        "INSERT INTO campaign_gates (tenant_id, campaign_id, settings) VALUES ($1, $2, '{\"frequency_cap\": 0}')",
        office.tenant, campaign.id,
    )  # fmt: skip
    assert await refusal(office, campaign.id) == "approval_outdated"


async def _join(office: Office, list_id: UUID, others: UUID) -> None:
    """Put the members of a list on another one as well."""
    await office.fetch(
        "INSERT INTO list_members (tenant_id, list_id, contact_id) SELECT tenant_id, $1, contact_id "
        "FROM list_members WHERE list_id = $2",
        list_id, others,
    )  # fmt: skip
