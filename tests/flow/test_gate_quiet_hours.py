"""Quiet hours on a real database: who is held until when, who goes until when, and what a change of settings does."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from outrider.base.clock import boottime_s
from outrider.base.errors import Refused, RefusedMany
from outrider.contracts.actor import Actor
from outrider.domain.limits import gates
from outrider.domain.messages import holds
from outrider.domain.tenants import tenants
from tests.kit.campaigns import fanned_out, launched
from tests.kit.dispatch import GATES, Desk, Post
from tests.kit.noon import next_midnight, noon_zone

TESTER = Actor("user", "tester")


@pytest.fixture
async def desk(post: Post) -> Desk:
    return await post.desk()


def around_now(zone_hours: int = 0) -> str:
    """Hours that are quiet now where the clock is so many hours ahead of UTC: since an hour, for two more."""
    now = datetime.now(UTC) + timedelta(hours=zone_hours)
    return f"{now - timedelta(hours=1):%H:%M}-{now + timedelta(hours=2):%H:%M}"


async def settle(desk: Desk, zone: str = "UTC", **settings: Any) -> None:
    """The tenant's zone and settings, as its people set them."""
    fields = tenants.known_fields(GATES)
    async with desk.engine() as uow:
        await tenants.change(uow, TESTER, desk.tenant_id, timezone=zone, settings=settings, fields=fields)
        await holds.tenant_changed(uow, GATES, settings, is_zone=True)


async def zone_of(desk: Desk, n: int, zone: str | None) -> None:
    await desk.post.execute(
        "UPDATE contacts SET timezone = $3 WHERE tenant_id = $1 AND (attributes ->> 'n')::int = $2",
        desk.tenant_id, n, zone,
    )  # fmt: skip


async def test_bulk_in_quiet_hours_is_held_until_their_end_and_says_so(desk: Desk) -> None:
    await settle(desk, quiet_channels="email", quiet_hours=around_now())
    campaign = await launched(desk, 3)
    await fanned_out(desk.post)
    claim = await desk.claim(lane=await campaign.lane())
    assert claim.batch is None
    assert claim.settled_count == 3
    ids = await campaign.messages()
    assert await desk.states(ids) == ["held"] * 3
    shown = await desk.message(ids[0])
    assert shown["waiting_for"] == "quiet_hours: it is quiet in UTC"
    left_s = (shown["next_at"] - datetime.now(UTC)).total_seconds()
    assert 7000 < left_s <= 7200
    assert (shown["next_at"].second, shown["next_at"].microsecond) == (0, 0)
    assert (await desk.events(ids[0]))[-1] == "held"


async def test_the_contacts_zone_decides_before_the_tenants(desk: Desk) -> None:
    await settle(desk, zone="Pacific/Kiritimati", quiet_channels="email", quiet_hours=around_now())
    campaign = await launched(desk, 3)
    await zone_of(desk, 1, "UTC")
    await zone_of(desk, 2, "Mars/Olympus_Mons")
    await fanned_out(desk.post)
    claim = await desk.claim(lane=await campaign.lane())
    assert claim.batch is not None
    assert len(claim.batch.messages) == 2, "no zone, and one nobody knows: the tenant's, where it is not quiet"
    assert claim.settled_count == 1


async def test_what_passes_may_not_leave_after_the_hours_begin(desk: Desk) -> None:
    now = datetime.now(UTC)
    begins = (now + timedelta(hours=2)).replace(second=0, microsecond=0)
    await settle(desk, quiet_channels="email", quiet_hours=f"{begins:%H:%M}-{begins + timedelta(hours=1):%H:%M}")
    campaign = await launched(desk, 1)
    await fanned_out(desk.post)
    claim = await desk.claim(lane=await campaign.lane())
    assert claim.batch is not None
    (claimed,) = claim.batch.messages.values()
    assert claimed.until_s is not None
    at_wire = claimed.until_s - boottime_s() - (begins - datetime.now(UTC)).total_seconds()
    assert abs(at_wire) < 5, "the instant goes with the message to the wire"


async def test_email_keeps_no_quiet_hours_unless_somebody_wishes_it(desk: Desk) -> None:
    campaign = await launched(desk, 1)
    await fanned_out(desk.post)
    claim = await desk.claim(lane=await campaign.lane())
    assert claim.batch is not None
    assert [each.until_s for each in claim.batch.messages.values()] == [None]


@pytest.mark.parametrize(
    ("more", "goes"),
    [({}, True), ({"quiet_transactional": True}, False), ({"quiet_transactional": True, "quiet_channels": "sms"}, True),
     ({"quiet_transactional": True, "quiet_exempt_purposes": "other,transactional"}, True),
     ({"quiet_transactional": True, "quiet_hours": "off"}, True)],
)  # fmt: skip
async def test_who_is_subject_is_a_setting(desk: Desk, more: dict[str, Any], *, goes: bool) -> None:
    await settle(desk, **{"quiet_channels": "email", "quiet_hours": around_now(), **more})
    await desk.admit(1)
    assert ((await desk.claim()).batch is not None) is goes


async def test_a_quiet_weekday_holds_to_the_next_morning(desk: Desk) -> None:
    here = noon_zone()  # no day ends meanwhile
    today = datetime.now(ZoneInfo(here)).strftime("%a").lower()
    await settle(
        desk, here, quiet_channels="email", quiet_hours="21:00-09:00", quiet_weekdays=today, quiet_transactional=True
    )
    (message_id,) = await desk.admit(1)
    assert (await desk.claim()).batch is None
    until = (await desk.message(message_id))["next_at"]
    assert until == next_midnight(here) + timedelta(hours=9)


async def test_a_campaigns_own_hours_hold_instead_of_the_tenants_and_free_what_is_held(desk: Desk) -> None:
    await settle(desk, quiet_channels="email", quiet_hours=around_now())
    campaign = await launched(desk, 2)
    await fanned_out(desk.post)
    lane = await campaign.lane()
    assert (await desk.claim(lane=lane)).settled_count == 2
    async with desk.engine() as uow:
        set_now = await gates.set_of_campaign(uow, TESTER, campaign.id, {"quiet_hours": "off"}, gates=GATES)
        assert await holds.ask_again(uow, GATES, ["quiet_hours"], campaign.id) == 2
    assert set_now.own == {"quiet_hours": "off"}
    assert set_now.settings["quiet_channels"] == "email"
    await desk.post.execute("UPDATE queue SET state = 0 WHERE tenant_id = $1 AND due_at <= now()", desk.tenant_id)
    claim = await desk.claim(lane=lane)
    assert claim.batch is not None
    assert len(claim.batch.messages) == 2
    async with desk.engine() as uow:
        back = await gates.set_of_campaign(uow, TESTER, campaign.id, {"quiet_hours": None}, gates=GATES)
    assert back.own == {}
    details = await desk.post.value(
        "SELECT details::text FROM audit_log WHERE tenant_id = $1 AND action = 'campaign.gates' "
        "ORDER BY seq DESC LIMIT 1",
        desk.tenant_id,
    )
    assert json.loads(details)["quiet_hours"][0] == "off"


async def test_what_no_hours_can_be_is_refused_by_name(desk: Desk) -> None:
    wrong = {"quiet_hours": "25:00-09:00", "quiet_weekdays": "someday", "quiet_holidays": "12-32", "quiet_channels": ""}
    with pytest.raises(RefusedMany) as raised:
        await settle(desk, **wrong)
    assert {error.field for error in raised.value.errors} == {f"settings.{name}" for name in wrong}
    campaign = await launched(desk, 1)
    async with desk.engine() as uow:
        with pytest.raises((Refused, RefusedMany)):
            await gates.set_of_campaign(uow, TESTER, campaign.id, {"consent_required": False}, gates=GATES)
