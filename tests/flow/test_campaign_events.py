"""What happens to a campaign as a whole stands in the feed of events, once, with its facts and nobody's name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from outrider.base.ids import DEFAULT_TENANT
from outrider.data.db import Role
from outrider.domain.campaigns import schedule
from outrider.domain.campaigns.brakes import Watch
from outrider.domain.senders.connections import Vault
from outrider.engine.maintenance.upkeep import Upkeep
from tests.kit.api import Api, Caller
from tests.kit.campaign_api import PEOPLE, campaign_api, draft, made, turn

VARIANTS = [{"name": "a", "share_percent": 50}, {"name": "b", "share_percent": 50, "subject": "Another"}]


@pytest.fixture
async def api(migrated_url: str, tmp_path: Path) -> AsyncIterator[Api]:
    async with campaign_api(migrated_url, tmp_path) as running:
        yield running


@pytest.fixture
async def owner(api: Api) -> Caller:
    await api.user("ann@example.org")
    return await api.signed_in("ann@example.org")


@pytest.fixture
async def path(api: Api, owner: Caller) -> str:
    return await draft(api, owner)


async def happened(api: Api) -> list[dict[str, Any]]:
    """The feed from its beginning, by pages of two."""
    reader = api.caller(await api.key("messages:read", role="viewer"))
    found: list[dict[str, Any]] = []
    cursor = ""
    while True:
        page = (await reader.get(f"/api/v1/events?limit=2&cursor={cursor}")).json
        found += page["items"]
        cursor = page["next_cursor"]
        if not page["has_more"]:
            assert len({event["id"] for event in found}) == len(found)
            return found


async def kinds(api: Api) -> list[str]:
    return [event["kind"].removeprefix("campaign_") for event in await happened(api) if event["message_id"] is None]


async def end_all(api: Api) -> None:
    """As if every message had been sent."""
    async with api.engine() as uow:
        await uow.raw.execute("DELETE FROM queue")
        await uow.raw.execute("UPDATE messages SET state = 'sent', finished_at = now()")
        await uow.raw.execute(
            "INSERT INTO rollup_deltas (tenant_id, lane_id, hour, state, n) "
            "SELECT tenant_id, lane_id, date_trunc('hour', now()), 'sent', count(*) FROM messages GROUP BY 1, 2"
        )


async def test_a_campaign_from_its_launch_to_its_end(api: Api, owner: Caller, path: str) -> None:
    campaign_id = path.rpartition("/")[2]
    made(await owner.post(f"{path}/launch", {"reason": "it is November"}), 202)
    made(await owner.post(f"{path}/pause", {"reason": "wait"}))
    made(await owner.post(f"{path}/pause", {"reason": "again changes nothing"}))
    made(await owner.post(f"{path}/resume", {}))
    await turn(api)
    await end_all(api)
    await turn(api, "finish_campaigns")
    found = [event for event in await happened(api) if event["message_id"] is None]
    assert [event["kind"] for event in found] == [
        "campaign_launched", "campaign_paused", "campaign_resumed", "campaign_finished",
    ]  # fmt: skip
    launched, paused, resumed, finished = found
    assert {(event["campaign_id"], event["channel"], event["class"]) for event in found} == {
        (campaign_id, "email", "bulk")
    }
    assert launched["data"] == {
        "by": "user", "reason": "it is November", "members": PEOPLE, "will_go": PEOPLE, "template_version": 1,
    }  # fmt: skip
    assert (paused["data"], resumed["data"]) == ({"by": "user", "reason": "wait"}, {"by": "user"})
    assert finished["data"] == {"by": "system", "counts": {"sent": PEOPLE}}
    assert "ann@example.org" not in str(found)


async def test_taking_back_scheduling_and_cancelling(api: Api, owner: Caller, path: str) -> None:
    made(await owner.post(f"{path}/launch", {"undo_s": 600}), 202)
    made(await owner.post(f"{path}/undo", {}))
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    made(await owner.post(f"{path}/schedule", {"launch_at": later}))
    made(await owner.post(f"{path}/unschedule", {}))
    made(await owner.post(f"{path}/launch"), 202)
    made(await owner.post(f"{path}/cancel", {"reason": "wrong list"}))
    assert await kinds(api) == ["launched", "launch_undone", "scheduled", "unscheduled", "launched", "cancelled"]


async def test_a_launch_that_is_refused_when_its_moment_comes_and_one_that_is_not(
    api: Api, owner: Caller, path: str
) -> None:
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    runtime = api.runtime
    vault = Vault(runtime.providers, runtime.keyring, runtime.egress)
    for is_well in (False, True):
        made(await owner.post(f"{path}/schedule", {"launch_at": later}))
        async with api.engine() as uow:
            await uow.raw.execute("UPDATE campaigns SET launch_at = now()")
            archived_at = None if is_well else datetime.now(UTC)
            await uow.raw.execute("UPDATE senders SET archived_at = $1", archived_at)
        (campaign_id,) = await _ids(api)
        await schedule.launch_due(
            runtime.db, runtime.settings, vault, DEFAULT_TENANT, campaign_id, channels=runtime.channels
        )
        async with api.engine() as uow:
            await uow.raw.execute("UPDATE senders SET archived_at = NULL")
    assert await kinds(api) == ["scheduled", "launch_refused", "scheduled", "launched"]


async def _ids(api: Api) -> list[Any]:
    async with api.engine() as uow:
        return [row["id"] for row in await uow.raw.fetch("SELECT id FROM campaigns")]


async def test_waves_and_their_winner(api: Api, owner: Caller, path: str) -> None:
    test = {"variants": VARIANTS, "audience_percent": 50, "decision": "by_hand"}
    wanted = {"canary": {"share_percent": 10, "minimum_count": 5}, "ab_test": test}
    made(await owner.put(f"{path}/delivery", wanted))
    made(await owner.post(f"{path}/launch"), 202)
    await turn(api)
    made(await owner.post(f"{path}/stop", {"reason": "wrong link"}))
    made(await owner.post(f"{path}/go-on", {"reason": "it is right"}))
    await turn(api)
    made(await owner.post(f"{path}/winner", {"variant": "b"}))
    found = [event for event in await happened(api) if event["message_id"] is None]
    assert [event["kind"].removeprefix("campaign_") for event in found] == [
        "launched", "paused", "wave_stopped", "wave_released", "resumed", "winner_chosen",
    ]  # fmt: skip
    assert (found[-1]["data"]["variant"], found[-1]["data"]["wave"]) == ("b", 2)


async def test_approvals_name_nobody(api: Api, owner: Caller, path: str) -> None:
    made(await owner.patch(f"/api/v1/tenants/{DEFAULT_TENANT}", {"settings": {"approval_above_count": 1}}))
    await api.user("bob@example.org", "admin")
    bob = await api.signed_in("bob@example.org")
    for answer in ("reject", "approve"):
        made(await owner.post(f"{path}/approval/request", {"reason": "please"}), 201)
        made(await bob.post(f"{path}/approval/{answer}", {"reason": "so be it"}))
    found = [event for event in await happened(api) if event["message_id"] is None]
    assert [event["kind"].removeprefix("campaign_") for event in found] == [
        "approval_asked", "rejected", "approval_asked", "approved",
    ]  # fmt: skip
    assert found[-1]["data"] == {"by": "user", "reason": "so be it", "members": PEOPLE}
    assert not any(name in str(found) for name in ("ann@", "bob@"))


async def test_a_brake_pauses_and_says_which(api: Api, owner: Caller, path: str) -> None:
    made(await owner.post(f"{path}/launch"), 202)
    await turn(api)
    async with api.engine() as uow:
        await uow.raw.execute("UPDATE messages SET state = 'sent', finished_at = now()")
        await uow.raw.execute(
            "INSERT INTO suppressions (tenant_id, channel, address_hash, address, reason, source, created_by) "
            "SELECT tenant_id, 'email', sha256(convert_to(address, 'UTF8')), address, 'unsubscribe', 'test', 'test' "
            "FROM messages LIMIT 10"
        )
    assert await Watch(api.runtime.db).step() == 1
    found = [event for event in await happened(api) if event["message_id"] is None]
    assert [event["kind"] for event in found] == ["campaign_launched", "campaign_paused", "campaign_braked"]
    assert (found[-1]["data"]["by"], found[-1]["data"]["brake"]) == ("system", "opt-outs")


async def test_a_change_that_is_rolled_back_is_not_told_and_old_events_are_dropped(
    api: Api, owner: Caller, path: str
) -> None:
    refused = await owner.post(f"{path}/pause", {})
    assert refused.status == 409
    assert await kinds(api) == []
    made(await owner.post(f"{path}/launch"), 202)
    async with api.engine() as uow:
        await uow.raw.execute("UPDATE campaign_events SET at = now() - interval '5 years'")
    assert (await Upkeep(api.runtime).retention())["campaign_events"] == 1
    assert await kinds(api) == []


async def test_another_tenants_campaigns_are_not_in_the_feed(api: Api, owner: Caller, path: str) -> None:
    made(await owner.post(f"{path}/launch"), 202)
    async with api.engine(None) as uow:
        other = await uow.raw.fetchval("INSERT INTO tenants (name) VALUES ('other') RETURNING id")
    reader = api.caller(await api.key("messages:read", role="viewer", tenant_id=other))
    assert (await reader.get("/api/v1/events")).json["items"] == []
    async with api.runtime.db.uow(Role.APP, other) as uow:
        assert await uow.raw.fetchval("SELECT count(*) FROM campaign_events") == 0
