"""How a campaign goes out, over HTTP: said, refused by field, decided by people, and how its variants fared."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.kit.api import Api, Caller
from tests.kit.campaign_api import PEOPLE, campaign_api, draft, made, turn

_VARIANTS = [{"name": "a", "share_percent": 50}, {"name": "b", "share_percent": 50, "subject": "Another"}]


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
    """A draft to forty people."""
    return await draft(api, owner)


async def test_a_campaign_in_waves_is_said_launched_decided_and_compared(api: Api, owner: Caller, path: str) -> None:
    test = {"variants": _VARIANTS, "audience_percent": 50, "decision": "by_hand"}
    wanted = {"canary": {"share_percent": 10, "minimum_count": 5}, "ab_test": test, "pacing": {"per_hour": 3600}}
    view = made(await owner.put(f"{path}/delivery", wanted))
    assert [each["name"] for each in view["variants"]] == ["a", "b"]
    assert made(await owner.get(path))["delivery"]["pacing"]["per_hour"] == 3600
    sheet = made(await owner.post(f"{path}/preflight", {}))
    assert (sheet["rate_source"], sheet["rate_per_s"]) == ("pace", 1)
    made(await owner.post(f"{path}/launch"), 202)
    await turn(api)
    progress = made(await owner.get(f"{path}/progress"))
    assert [(wave["kind"], wave["state"]) for wave in progress["delivery"]["waves"]] == [
        ("canary", "going_out"), ("test", "waiting"), ("rest", "waiting"),
    ]  # fmt: skip
    assert progress["expansion"]["state"] == "between_waves"
    refused = await owner.post(f"{path}/winner", {"variant": "a"})
    assert (refused.status, refused.code) == (409, "no_wave_waits")
    stopped = made(await owner.post(f"{path}/stop", {"reason": "wrong link"}))
    assert (stopped["waits_for"], stopped["waves"][0]["why"]) == ("decision", "wrong link")
    refused = await owner.post(f"{path}/resume", {})
    assert (refused.status, refused.code) == (409, "stopped_by_wave")
    assert made(await owner.post(f"{path}/go-on", {"reason": "it is right"}))["waves"][0]["verdict"] == "go_on"
    await turn(api)
    unknown = await owner.post(f"{path}/winner", {"variant": "z"})
    assert (unknown.status, unknown.json["pointer"]) == (422, "/variant")
    chosen = made(await owner.post(f"{path}/winner", {"variant": "b", "reason": "shorter"}))
    assert chosen["waves"][1]["winner"] == "b"
    again = await owner.post(f"{path}/winner", {"variant": "a"})
    assert (again.status, again.code) == (409, "winner_chosen")
    await turn(api)
    assert made(await owner.get(f"{path}/progress"))["expanded_count"] == PEOPLE
    fared = made(await owner.get(f"{path}/results/variants"))["items"]
    assert [(each["name"], each["is_winner"]) for each in fared] == [("a", False), ("b", True)]
    assert sum(each["counts"]["queued"] for each in fared) == PEOPLE
    message = made(await owner.get(f"/api/v1/messages?limit=1&campaign_id={path.rpartition('/')[2]}"))["items"][0]
    assert made(await owner.get(f"/api/v1/messages/{message['id']}/variant"))["name"] in {"a", "b"}
    assert made(await owner.put(f"{path}/pace", {"pacing": None}))["pace_per_s"] is None
    actions = {entry["action"] for entry in made(await owner.get("/api/v1/audit?limit=100"))["items"]}
    assert {"campaign.delivery", "campaign.wave_stop", "campaign.wave_go_on", "campaign.pace"} <= actions


@pytest.mark.parametrize(
    ("said", "code", "pointer"),
    [
        ({"pacing": {}}, "one_pace", "/pacing"),
        ({"canary": {"wait_minutes": -1}}, "invalid_value", "/canary/wait_minutes"),
        ({"local_time": {"at": "2027-03-01T09:00:00Z"}}, "invalid_value", "/local_time/at"),
        ({"ab_test": {"variants": _VARIANTS[:1]}}, "invalid_value", "/ab_test/variants"),
        ({"ab_test": {"variants": [_VARIANTS[0], {"name": "b", "share_percent": 50}]}}, "same_content",
         "/ab_test/variants/1"),
        ({"canari": {}}, "unknown_field", "/canari"),
    ],
)  # fmt: skip
async def test_what_does_not_fit_is_refused_by_its_field(
    owner: Caller, path: str, said: dict[str, Any], code: str, pointer: str
) -> None:
    answer = await owner.put(f"{path}/delivery", said)
    assert (answer.status, answer.json["pointer"]) == (422, pointer), answer.text
    assert answer.code == code
