"""Campaigns to segments and less exclusions: what the preflight counted is who gets it, frozen at the launch."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest

from outrider.base.errors import Refused, RefusedMany
from outrider.data.db import UnitOfWork
from outrider.domain.campaigns import audience, draft, launch, preflight, read, sheet
from outrider.domain.campaigns.draft import CampaignChange, NewCampaign
from outrider.domain.campaigns.views import CampaignView, Exclusions
from outrider.domain.contacts import lists
from outrider.domain.segments import rules, segments
from outrider.domain.segments.segments import NewSegment, SegmentChange
from outrider.engine.fanout import expand
from tests.kit.api import runtime_for
from tests.kit.audience import ACTOR
from tests.kit.office import Office, open_office


@pytest.fixture
async def office(migrated_url: str) -> AsyncIterator[Office]:
    async with open_office(migrated_url, expand_batch=100) as found:
        yield found


def rule(**told: Any) -> rules.Rule:
    found: rules.Rule = msgspec.convert(told, type=rules.Rule)
    return found


async def fanned_out(office: Office, url: str) -> None:
    """Every round of the loops that queue."""
    runtime = runtime_for(url, expand_batch=100)
    steps = {loop.name: loop.step for loop in expand.loops(replace(runtime, db=office.db))}
    await runtime.db.close()
    await steps["settle_audiences"]()
    while await steps["fan_out"]():
        pass


async def got(office: Office, campaign_id: UUID) -> set[UUID]:
    rows = await office.fetch("SELECT contact_id FROM messages WHERE campaign_id = $1", campaign_id)
    return {row[0] for row in rows}


async def members(office: Office, list_id: UUID) -> list[UUID]:
    rows = await office.fetch("SELECT contact_id FROM list_members WHERE list_id = $1 ORDER BY contact_id", list_id)
    return [row[0] for row in rows]


async def launched(office: Office, campaign: CampaignView) -> CampaignView:
    async with office.engine() as uow:
        return await launch.launch(uow, office.settings, office.vault, ACTOR, campaign.id, channels=office.channels)


async def segment(office: Office, name: str, wanted: rules.Rule) -> UUID:
    async with office.app() as uow:
        return (await segments.create(uow, ACTOR, NewSegment(name, wanted))).id


async def to_segment(office: Office, name: str, segment_id: UUID, **more: Any) -> CampaignView:
    sender = (await office.sender(f"sender {name}", postal_address="1 Road")).id
    template = (await office.template(f"template {name}")).id
    async with office.app() as uow:
        return await draft.create(
            uow, ACTOR, NewCampaign(name, sender_id=sender, template_id=template, segment_id=segment_id, **more)
        )


async def looked(office: Office, campaign_id: UUID) -> Any:
    async with office.app() as uow:
        return await preflight.look(uow, office.settings, office.vault, campaign_id, channels=office.channels)


async def test_a_campaign_goes_to_whom_its_segment_held_for_at_the_launch(office: Office, migrated_url: str) -> None:
    everybody = await members(office, await office.newsletter_list(250, without_consent=20, without_address=5))
    chosen = set(everybody[::2])
    await office.fetch(
        'UPDATE contacts SET attributes = \'{"plan": "gold"}\' WHERE id = ANY ($1::uuid[]) RETURNING 1', list(chosen)
    )
    gold = await segment(office, "gold", rule(kind="attribute", key="plan", value="gold"))
    campaign = await to_segment(office, "to gold", gold)
    found = await looked(office, campaign.id)
    assert found.member_count == 125
    assert found.will_go_count == 125 - found.no_address_count - found.without_consent_count
    await launched(office, campaign)
    # what is changed after the launch changes nothing: not the segment, not new contacts
    async with office.app() as uow:
        await segments.update(uow, ACTOR, gold, SegmentChange(rules=rule(kind="any", rules=[])))
        await uow.raw.execute(
            'INSERT INTO contacts (tenant_id, attributes) VALUES ($1, \'{"plan": "gold"}\')', office.tenant
        )
    await fanned_out(office, migrated_url)
    assert await got(office, campaign.id) == {
        row[0]
        for row in await office.fetch(
            "SELECT contact_id FROM addresses WHERE contact_id = ANY ($1::uuid[])", list(chosen)
        )
    }
    async with office.app() as uow:
        now = await read.get(uow, campaign.id)
    assert (now.audience_count, now.no_address_count) == (125, found.no_address_count)
    assert now.expanded_count + now.no_address_count == 125
    assert now.expanded_at is not None


async def test_those_who_got_another_campaign_are_left_out_and_counted(office: Office, migrated_url: str) -> None:
    people = await office.newsletter_list(30)
    some = await members(office, people)
    async with office.app() as uow:
        short = await uow.raw.fetchval(
            "INSERT INTO lists (tenant_id, name) VALUES ($1, 'short') RETURNING id", office.tenant
        )
        await uow.raw.executemany(
            "INSERT INTO list_members (tenant_id, list_id, contact_id) VALUES ($1, $2, $3)",
            [(office.tenant, short, each) for each in some[:10]],
        )
    first = await office.campaign("first", list_id=short)
    await launched(office, first)
    exclusions = Exclusions(campaign_ids=[first.id])
    second = await office.campaign("second", list_id=people, exclusions=exclusions)
    with pytest.raises(RefusedMany) as refused:
        await launched(office, second)
    assert [each.code for each in refused.value.errors] == ["exclusion_under_way"]
    await fanned_out(office, migrated_url)
    failed = await office.fetch(
        "UPDATE messages SET state = 'failed' WHERE contact_id = $1 RETURNING contact_id", some[0]
    )
    assert failed
    found = await looked(office, second.id)
    assert (found.member_count, found.excluded_count) == (21, 9)
    assert [(each.kind, each.name, each.count) for each in found.excluded_by] == [("campaign", "first", 9)]
    await launched(office, second)
    await fanned_out(office, migrated_url)
    assert await got(office, second.id) == {some[0], *some[10:]}


async def test_lists_and_segments_are_left_out_too_and_nobody_left_blocks(office: Office, migrated_url: str) -> None:
    people = await office.newsletter_list(5)
    everybody = await segment(office, "everybody", rules.EVERYBODY)
    without_list = await office.campaign("a", list_id=people, exclusions=Exclusions(list_ids=[people]))
    without_segment = await office.campaign("b", list_id=people, exclusions=Exclusions(segment_ids=[everybody]))
    for campaign in (without_list, without_segment):
        found = await looked(office, campaign.id)
        assert (found.member_count, found.excluded_count) == (0, 5)
        assert "everybody_excluded" in {finding.code for finding in found.findings if finding.is_blocking}


async def test_of_several_exclusions_each_says_how_many_it_takes(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = await office.newsletter_list(6)
    some = await members(office, people)
    async with office.app() as uow:
        few = (await lists.create(uow, ACTOR, "few")).id
        await uow.raw.executemany(
            "INSERT INTO list_members (tenant_id, list_id, contact_id) VALUES ($1, $2, $3)",
            [(office.tenant, few, each) for each in some[:2]],
        )
    await office.newsletter_list(3)  # people elsewhere, whom a segment holds for as well
    named = await segment(office, "P1 or P2", rules.Field("name", "is_one_of", ["P1", "P2"]))
    exclusions = Exclusions(list_ids=[few], segment_ids=[named])
    campaign = await office.campaign("x", list_id=people, exclusions=exclusions)
    found = await looked(office, campaign.id)
    ((both,),) = await office.fetch(
        "SELECT count(*) FROM contacts WHERE id = ANY ($1) AND name IN ('P1', 'P2')", some[:2]
    )
    assert (found.member_count, found.excluded_count) == (6 - (4 - both), 4 - both)
    assert [(each.kind, each.name, each.count) for each in found.excluded_by] == [
        ("list", "few", 2), ("segment", "P1 or P2", 2),
    ]  # fmt: skip
    await launched(office, campaign)
    async with office.app() as uow:
        promised = await sheet.of_campaign(uow, campaign.id)
    assert (promised.excluded_count, promised.excluded_by) == (found.excluded_count, found.excluded_by)
    monkeypatch.setattr(audience, "_EACH_WITHIN_S", 0.0)
    slow = await office.campaign("y", list_id=people, exclusions=exclusions)
    assert [each.count for each in (await looked(office, slow.id)).excluded_by] == [None, None]


async def test_an_exclusion_that_takes_too_long_to_count_is_not_counted_and_refuses_nothing(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    people = await office.newsletter_list(4)
    async with office.app() as uow:
        few = [(await lists.create(uow, ACTOR, name)).id for name in ("few", "others")]
    campaign = await office.campaign("x", list_id=people, exclusions=Exclusions(list_ids=few))
    counted = segments.count

    async def count(uow: UnitOfWork, rule: rules.Rule, **more: Any) -> segments.Count:
        found = await counted(uow, rule, **more)
        if isinstance(rule, rules.AllOf):
            await uow.raw.fetchval("SELECT pg_sleep(600)")
        return found

    monkeypatch.setattr(segments, "count", count)
    monkeypatch.setattr(audience, "_EACH_WITHIN_S", 0.5)
    async with office.app() as uow:
        found = await audience.reach(uow, campaign)
        assert await uow.raw.fetchval("SHOW statement_timeout") == "25s", "as before, for what comes after it"
    assert (found.member_count, found.excluded_count) == (4, 0)
    assert [(each.name, each.count) for each in found.excluded_by] == [("few", None), ("others", None)]


async def test_an_audience_is_found_once_whoever_looks_for_it_and_not_while_paused(office: Office) -> None:
    await office.newsletter_list(20)
    everybody = await segment(office, "everybody", rules.EVERYBODY)
    campaign = await to_segment(office, "x", everybody)
    await launched(office, campaign)
    async with office.app() as uow:
        await launch.pause(uow, ACTOR, campaign.id, reason="wait")
    assert await audience.settle(office.db, office.tenant, campaign.id) is None
    async with office.app() as uow:
        await launch.resume(uow, ACTOR, campaign.id, reason="go")
    assert await audience.settle(office.db, office.tenant, campaign.id) == 20
    assert await audience.settle(office.db, office.tenant, campaign.id) is None


async def test_people_erased_after_the_launch_do_not_end_the_fan_out_early(office: Office, migrated_url: str) -> None:
    people = await members(office, await office.newsletter_list(250))
    campaign = await to_segment(office, "x", await segment(office, "everybody", rules.EVERYBODY))
    await launched(office, campaign)
    assert await audience.settle(office.db, office.tenant, campaign.id) == 250
    await office.fetch("DELETE FROM contacts WHERE id = ANY ($1::uuid[]) RETURNING 1", people[:120])
    await fanned_out(office, migrated_url)
    assert await got(office, campaign.id) == set(people[120:])


async def test_a_draft_has_one_audience_and_names_what_is_there(office: Office) -> None:
    people = await office.newsletter_list(1)
    everybody = await segment(office, "everybody", rules.EVERYBODY)
    made = await office.campaign("x", list_id=people)
    async with office.app() as uow:
        changed = await draft.update(uow, ACTOR, made.id, CampaignChange(segment_id=everybody))
        assert (changed.list_id, changed.segment_id) == (None, everybody)
        changed = await draft.update(uow, ACTOR, made.id, CampaignChange(list_id=people))
        assert (changed.list_id, changed.segment_id) == (people, None)
    for change, code, field in (
        (CampaignChange(list_id=people, segment_id=everybody), "one_audience", "/list_id"),
        (CampaignChange(segment_id=uuid4()), "not_found", "/segment_id"),
        (CampaignChange(exclusions=Exclusions(list_ids=[uuid4()])), "unknown_list", "/exclusions"),
        (CampaignChange(exclusions=Exclusions(campaign_ids=[uuid4()])), "unknown_campaign", "/exclusions"),
        (CampaignChange(exclusions=Exclusions(segment_ids=[uuid4()])), "unknown_segment", "/exclusions"),
    ):
        with pytest.raises(Refused) as refused:
            async with office.app() as uow:
                await draft.update(uow, ACTOR, made.id, change)
        assert refused.value.code == code
        assert str(refused.value.field).startswith(field)
    async with office.app() as uow:
        await draft.update(uow, ACTOR, made.id, CampaignChange(segment_id=everybody))
    with pytest.raises(Refused) as refused:
        async with office.app() as uow:
            await segments.delete(uow, ACTOR, everybody)
    assert refused.value.code == "segment_in_use"
