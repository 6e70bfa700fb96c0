"""How a campaign goes out, from the draft to the launch: what is set, fixed, told before and refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest

from outrider.base.errors import Refused, RefusedMany
from outrider.domain.campaigns import draft, going_out, launch, links, pacing, preflight, read, variants
from outrider.domain.campaigns.delivery import AbTest, Canary, Delivery, LocalTime, NewVariant, Pacing
from outrider.domain.campaigns.draft import CampaignChange
from outrider.domain.campaigns.shown import DeliveryView
from outrider.domain.campaigns.views import CampaignView, Preflight
from outrider.domain.templates import templates
from outrider.domain.templates.templates import Source
from outrider.domain.tracking import choices
from outrider.domain.tracking.choices import ChoiceChange
from tests.kit.audience import ACTOR
from tests.kit.office import Office, open_office

TWO = [NewVariant("a", 50), NewVariant("b", 50, subject="Another subject")]


@pytest.fixture
async def office(migrated_url: str) -> AsyncIterator[Office]:
    async with open_office(migrated_url) as found:
        yield found


async def kept(office: Office, campaign_id: UUID, wanted: Delivery) -> DeliveryView:
    async with office.app() as uow:
        return await going_out.keep(uow, office.channels, office.renderer, ACTOR, campaign_id, wanted)


async def checked(office: Office, campaign_id: UUID) -> Preflight:
    async with office.app() as uow:
        return await preflight.preflight(uow, office.settings, office.vault, campaign_id, channels=office.channels)


async def launched(office: Office, campaign_id: UUID) -> CampaignView:
    async with office.engine() as uow:
        return await launch.launch(uow, office.settings, office.vault, ACTOR, campaign_id, channels=office.channels)


def codes(found: Preflight) -> dict[str, bool]:
    return {each.code: each.is_blocking for each in found.findings}


async def refusal(office: Office, campaign_id: UUID, wanted: Delivery) -> tuple[str, str | None]:
    with pytest.raises(Refused) as caught:
        await kept(office, campaign_id, wanted)
    return caught.value.code, caught.value.field


async def test_what_was_set_of_a_draft_is_shown_audited_and_replaced_as_a_whole(office: Office) -> None:
    campaign = await office.campaign()
    wanted = Delivery(pacing=Pacing(per_hour=60), canary=Canary(), ab_test=AbTest(TWO))
    view = await kept(office, campaign.id, wanted)
    assert view.delivery == wanted
    assert [(each.name, each.share_percent, each.subject) for each in view.variants] == [
        ("a", 50, None),
        ("b", 50, "Another subject"),
    ]
    async with office.app() as uow:
        assert (await read.get(uow, campaign.id)).delivery == wanted
    view = await kept(office, campaign.id, Delivery())
    assert (view.delivery, view.variants, view.waves) == (Delivery(), [], [])
    ((count,),) = await office.fetch("SELECT count(*) FROM audit_log WHERE action = 'campaign.delivery'")
    assert count == 2


async def test_variants_are_fixed_to_the_version_there_was_and_say_their_own_subject(office: Office) -> None:
    campaign = await office.campaign()
    assert campaign.template_id is not None
    other = await office.template("other", subject="From elsewhere", text="Another text")
    three = [
        NewVariant("a", 40),
        NewVariant("b", 30, subject="B {{ name }}"),
        NewVariant("c", 30, template_id=other.id),
    ]
    before = (await kept(office, campaign.id, Delivery(ab_test=AbTest(three)))).variants
    async with office.app() as uow:
        await templates.add_version(
            uow, office.channels, office.renderer, ACTOR, campaign.template_id, Source("Newer", text="newer")
        )
        after = await variants.listed(uow, campaign.id)
    assert after == before
    said = await office.fetch(
        "SELECT c.subject, c.text FROM campaign_variants v JOIN contents c ON c.id = v.content_id ORDER BY v.n"
    )
    assert said == [
        ("Hello {{ name }}", "Dear {{ name }}"),
        ("B {{ name }}", "Dear {{ name }}"),
        ("From elsewhere", "Another text"),
    ]


async def test_what_does_not_fit_is_refused_by_its_field_and_nothing_is_stored(office: Office) -> None:
    campaign = await office.campaign()
    a = NewVariant("a", 50)

    def test_of(other: NewVariant) -> Delivery:
        return Delivery(ab_test=AbTest([a, other]))

    nothing = UUID(int=7)
    gone = await office.template("gone")
    async with office.app() as uow:
        await templates.archive(uow, ACTOR, gone.id, is_archived=True)
    soon = datetime.now(UTC).replace(tzinfo=None)
    for wanted, expected in (
        (test_of(NewVariant("b", 50)), ("same_content", "/ab_test/variants/1")),
        (test_of(NewVariant("b", 50, template_id=nothing)), ("not_found", "/ab_test/variants/1/template_id")),
        (test_of(NewVariant("b", 50, template_version=9)), ("not_found", "/ab_test/variants/1/template_version")),
        (test_of(NewVariant("b", 50, template_id=gone.id)), ("archived", "/ab_test/variants/1/template_id")),
        (Delivery(local_time=LocalTime(soon - timedelta(days=1))), ("not_ahead", "/local_time/at")),
        (Delivery(local_time=LocalTime(soon + timedelta(days=367))), ("not_ahead", "/local_time/at")),
        (
            Delivery(local_time=LocalTime(soon, fallback_zone="Mars/Olympus")),
            ("unknown_timezone", "/local_time/fallback_zone"),
        ),
    ):
        assert await refusal(office, campaign.id, wanted) == expected
    code, field = await refusal(office, campaign.id, test_of(NewVariant("b", 50, subject="{{ name")))
    assert field == "/ab_test/variants/1/subject", code
    assert await office.fetch("SELECT FROM campaign_variants") == []
    assert await refusal(office, nothing, Delivery()) == ("not_found", "/id")


async def test_how_a_launched_campaign_goes_out_stays(office: Office) -> None:
    campaign = await office.campaign()
    await kept(office, campaign.id, Delivery(pacing=Pacing(spread_hours=1)))
    await launched(office, campaign.id)
    assert await refusal(office, campaign.id, Delivery()) == ("not_draft", "/id")
    async with office.app() as uow:
        assert await pacing.of(uow, campaign.id) == pytest.approx(3 / 3600)
        progress = await read.progress(uow, campaign.id)
    assert progress.delivery is not None
    assert progress.delivery.pace_per_s == pytest.approx(3 / 3600)
    assert progress.estimated_at is not None, "known by its pace before anything went"


async def test_the_preflight_tells_the_pace_the_waits_and_a_canary_of_everybody(office: Office) -> None:
    campaign = await office.campaign(list_id=await office.newsletter_list(60))
    await kept(office, campaign.id, Delivery(pacing=Pacing(per_minute=60), canary=Canary(wait_minutes=1)))
    found = await checked(office, campaign.id)
    assert (found.rate_per_s, found.rate_source, found.estimated_s) == (1, "pace", 120)
    assert codes(found)["canary_is_everybody"] is False


async def test_a_winner_by_what_is_not_noticed_refuses_the_launch(office: Office) -> None:
    campaign = await office.campaign()
    await kept(office, campaign.id, Delivery(ab_test=AbTest(TWO)))
    assert "nothing_noticed" not in codes(await checked(office, campaign.id))
    async with office.app() as uow:
        await choices.choose(uow, ACTOR, "campaign", campaign.id, ChoiceChange(clicks=False))
    assert codes(await checked(office, campaign.id))["nothing_noticed"] is True
    with pytest.raises(RefusedMany):
        await launched(office, campaign.id)
    for fine in (AbTest(TWO, metric="opens"), AbTest(TWO, decision="by_hand"), AbTest(TWO, audience_percent=100)):
        await kept(office, campaign.id, Delivery(ab_test=fine))
        assert "nothing_noticed" not in codes(await checked(office, campaign.id))


async def test_variants_of_a_template_that_was_changed_since_refuse_the_launch(office: Office) -> None:
    campaign = await office.campaign()
    await kept(office, campaign.id, Delivery(ab_test=AbTest(TWO)))
    other = await office.template("other", text="Something else")
    async with office.app() as uow:
        await draft.update(uow, ACTOR, campaign.id, CampaignChange(template_id=other.id))
    assert codes(await checked(office, campaign.id))["variants_stale"] is True


async def test_a_link_to_the_readers_own_machine_in_a_variant_refuses_the_launch(office: Office) -> None:
    campaign = await office.campaign()
    bad = await office.template("bad", html='<a href="http://localhost/x">x</a>', text="x")
    await kept(office, campaign.id, Delivery(ab_test=AbTest([TWO[0], NewVariant("b", 50, template_id=bad.id)])))
    assert codes(await checked(office, campaign.id))["local_link"] is True


async def test_the_links_and_the_preheader_of_a_variant_are_looked_at_and_told_with_its_name(office: Office) -> None:
    campaign = await office.campaign()
    odd = await office.template("odd", text="see http://example.com/a", preheader="more at https://localhost/b")
    await kept(office, campaign.id, Delivery(ab_test=AbTest([*TWO[:1], NewVariant("b", 50, template_id=odd.id)])))
    said = {(each.code, each.message, each.is_blocking) for each in (await checked(office, campaign.id)).findings}
    insecure = "variant b: text, line 1: http://example.com/a is not encrypted: https:// is expected today"
    assert ("insecure_link", insecure, False) in said
    local = "variant b: preheader, line 1: https://localhost/b leads to the reader's own machine"
    assert ("local_link", local, True) in said
    assert [each[1] for each in said if each[0] == "no_unsubscribe_link"] == [
        "shows no unsubscribe_url: a footer with the link is added to every bulk message"
    ], "what all of them share is said once, of nobody"
    async with office.app() as uow:
        tried = await links.of_campaign(uow, office.channels, campaign.id)
    assert tried == ["http://example.com/a", "https://localhost/b"]


async def test_what_nobody_gets_is_not_looked_at(office: Office) -> None:
    bad = await office.template("bad", html='<a href="http://localhost/x">x</a>', text="x")
    fine = [(await office.template(name, text=name)).id for name in ("one", "two")]
    campaign = await office.campaign(template_id=bad.id)
    assert codes(await checked(office, campaign.id))["local_link"] is True
    two = [NewVariant(str(at), 50, template_id=each) for at, each in enumerate(fine)]
    await kept(office, campaign.id, Delivery(ab_test=AbTest(two)))
    assert "local_link" not in codes(await checked(office, campaign.id))


async def test_the_preflight_tells_who_has_no_zone_and_who_is_late(office: Office) -> None:
    list_id = await office.newsletter_list(4)
    rows = await office.fetch("SELECT contact_id FROM list_members WHERE list_id = $1 ORDER BY 1", list_id)
    for (contact_id,), zone in zip(rows[:3], ("Asia/Tokyo", "America/New_York", "Mars/Olympus"), strict=True):
        await office.fetch("UPDATE contacts SET timezone = $2 WHERE id = $1", contact_id, zone)
    at = datetime.now(UTC).replace(tzinfo=None, microsecond=0) + timedelta(minutes=30)
    campaign = await office.campaign(list_id=list_id, expires_at=datetime.now(UTC) + timedelta(hours=2))
    await kept(office, campaign.id, Delivery(local_time=LocalTime(at)))
    found = {each.code: each.message for each in (await checked(office, campaign.id)).findings}
    assert found["zone_unknown"].startswith("2 have no known zone and get it by the zone of the tenant")
    assert found["hour_passed"].startswith("1 are past that hour and get it at once")
    assert "expires_before_hour" in found
    await office.fetch("UPDATE contacts SET timezone = 'Pacific/Kiritimati'")
    await kept(office, campaign.id, Delivery(local_time=LocalTime(at, late="skip")))
    assert codes(await checked(office, campaign.id))["hour_passed"] is True, "nobody would get it"


async def test_a_list_that_goes_out_in_waves_is_frozen_at_the_launch(office: Office) -> None:
    campaign = await office.campaign()
    assert (await launched(office, campaign.id)).audience_at is None
    waved = await office.campaign("in waves")
    await kept(office, waved.id, Delivery(canary=Canary()))
    await launched(office, waved.id)
    ((is_frozen,),) = await office.fetch("SELECT audience IS NOT NULL FROM campaigns WHERE id = $1", waved.id)
    assert is_frozen


async def test_an_approval_does_not_outlive_a_change_of_how_it_goes_out(office: Office) -> None:
    campaign = await office.campaign()
    async with office.engine() as uow:
        await uow.raw.execute(
            "INSERT INTO campaign_approvals (tenant_id, campaign_id, digest, member_count, will_go_count, "
            "requested_by, requesters, request_reason, expires_at) "
            "VALUES ($1, $2, '', 3, 3, 'x', '[]', 'x', now() + interval '1 hour')",
            office.tenant,
            campaign.id,
        )
    await kept(office, campaign.id, Delivery(pacing=Pacing(per_hour=1)))
    assert await office.fetch("SELECT state FROM campaign_approvals") == [("void",)]


def test_what_is_shown_can_be_said_again() -> None:
    wanted: dict[str, Any] = {"pacing": {"per_hour": 5}, "canary": {}}
    said = msgspec.convert(wanted, Delivery)
    assert msgspec.convert(msgspec.to_builtins(said), Delivery) == said
